"""Networks of the published Mamba systems for medical imaging: operators, layers, nets and published weights."""

__version__ = "0.1.0"
