"""Entry of the thyroid bundle in the registry."""

from custom_apps.common.room import Room

ROOM = Room(
    bundle="thyroid_deblur_mae",
    title="Deblurring masked autoencoders for thyroid ultrasound: classification of images, outlines of nodules",
    systems=("thyroid",),
    phantoms={
        "classes": "custom_apps.thyroid.phantom:write_thyroid_phantom",
        "tn3k": "custom_apps.thyroid.phantom:write_tn3k_phantom",
        "images_masks": "custom_apps.thyroid.phantom:write_images_masks_phantom",
    },
    prepare="custom_apps.thyroid.blurred_copy:write_blurred_copy",
    check="custom_apps.thyroid.check:check_dataset",
    dicom_masks="custom_apps.thyroid.dicom_masks:dicom_mask",
    report="custom_apps.thyroid.report:report_parts",
    demo="custom_apps.thyroid.demo:demo_commands",
    demo_summary="custom_apps.thyroid.demo:demo_summary",
)
