"""Metadata of jiant_sparse: ranges, not pins; the tested versions are in requirements.txt."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="jiant-sparse",
    version="0.1.0",
    description="Sparse fine-tuning of pretrained encoders, compared under one fair protocol",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.11",
    packages=find_packages(include=["jiant_sparse", "jiant_sparse.*"]),
    package_data={
        "jiant_sparse": ["py.typed"],
        "jiant_sparse.data": ["*.json"],
        "jiant_sparse.host": ["shapes/*.json"],
        "jiant_sparse.report": ["published/*"],
        "jiant_sparse.report.page": ["templates/*"],
    },
    install_requires=[
        "torch>=2.6",
        "transformers>=4.57,<5",
        "huggingface-hub>=0.34,<1",
        "safetensors>=0.4",
        "datasets>=4",
        "numpy>=2",
        "scikit-learn>=1.4",
        "scipy>=1.11",
        "matplotlib>=3.9",
        "pydantic>=2.8",
        "PyYAML>=6",
        "typer>=0.12",
        "Jinja2>=3.1",
        "pandas>=2.2",
        "rich>=13",
        "tabulate>=0.9",
    ],
    extras_require={
        # Its metadata pins what cannot be installed today: pip install --no-deps jiant==2.2.0
        "jiant": [
            "jiant==2.2.0",
            "attrs",
            "tqdm",
            "nltk",
            "numexpr",
            "Levenshtein",
            "seqeval",
        ],
        # For SparseTrainerMixin: transformers' Trainer needs it.
        "hf": ["accelerate>=1.1", "psutil"],
        "ray": ["ray>=2.40"],
        "tensorboard": ["tensorboardX>=2.6"],
        "dev": [
            "pytest",
            "pytest-xdist",
            "hypothesis",
            "ruff",
            "mypy",
            "statsmodels",
            "types-PyYAML",
            "types-tabulate",
            "playwright",
            "accelerate",
            "psutil",
        ],
    },
    entry_points={"console_scripts": ["jiant-sparse=jiant_sparse.cli:main"]},
)
