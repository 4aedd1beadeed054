"""Entry of the segmentation bundle in the registry."""

from custom_apps.common.room import Room

ROOM = Room(
    bundle="umamba_seg",
    title="U-Mamba and U-Mamba2 segmentation of 2-D and 3-D images, on data sets in nnU-Net layout",
    systems=("umamba", "umamba2"),
    phantoms={
        "ct": "custom_apps.seg.phantom_ct:write_ct_phantom",
        "cells": "custom_apps.seg.phantom_cells:write_cell_phantom",
        "clicks": "custom_apps.seg.phantom_clicks:write_click_phantom",
        "cbct": "custom_apps.seg.phantom_cbct:write_cbct_phantom",
        "toothfairy3": "custom_apps.seg.phantom_cbct:write_toothfairy3_phantom",
        "stsr": "custom_apps.seg.phantom_cbct:write_stsr_phantom",
    },
    prepare="custom_apps.seg.data_import:import_dataset",
    check="custom_apps.seg.check:check_dataset",
    install_converted="custom_apps.seg.model_folder:install_published",
    dicom_masks="custom_apps.seg.dicom_masks:dicom_mask",
    report="custom_apps.seg.report:report_parts",
    network_facts="custom_apps.seg.network_facts:network_facts",
    demo="custom_apps.seg.demo:demo_commands",
    demo_summary="custom_apps.seg.demo:demo_summary",
    recipes={
        "interactive": (
            "custom_apps.seg.demo_interactive:demo_commands",
            "custom_apps.seg.demo_interactive:demo_summary",
        ),
    },
)
