"""Entry of the echocardiography bundle in the registry."""

from custom_apps.common.room import Room

ROOM = Room(
    bundle="echo_ef_mamba3d",
    title="E-ViM3 masked autoencoder for ultrasound video: ejection fraction, ventricle masks, breast lesions",
    systems=("echo",),
    phantoms={
        "echonet": "custom_apps.echo.phantom:write_echonet_phantom",
        "camus": "custom_apps.echo.phantom_camus:write_camus_phantom",
        "buv": "custom_apps.echo.phantom_buv:write_buv_phantom",
    },
    prepare="custom_apps.echo.camus_preparation:prepare_camus",
    check="custom_apps.echo.check:check_dataset",
    report="custom_apps.echo.report:report_parts",
    demo="custom_apps.echo.demo:demo_commands",
    demo_summary="custom_apps.echo.demo:demo_summary",
)
