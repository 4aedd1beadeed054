"""Entry of the brain tumor bundle in the registry."""

from custom_apps.common.room import Room

ROOM = Room(
    bundle="brain_idh_ssm_mae",
    title="3D Mamba MAE for brain MR: IDH and 1p/19q status of gliomas, maps of where the network responds",
    systems=("brain",),
    phantoms={
        "egd": "custom_apps.brain.phantom:write_glioma_phantom",
        "brats": "custom_apps.brain.phantom:write_brats_phantom",
    },
    prepare="custom_apps.brain.prepare:prepare_dataset",
    check="custom_apps.brain.check:check_dataset",
    report="custom_apps.brain.report:report_parts",
    demo="custom_apps.brain.demo:demo_commands",
    demo_summary="custom_apps.brain.demo:demo_summary",
)
