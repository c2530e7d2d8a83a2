"""Map the top-level folders of code into the `fastadasp` namespace."""

from setuptools import find_packages, setup

FOLDERS = ("profiles", "plugins", "runtime", "evaluation", "serving", "export")


def packages() -> dict[str, str]:
    """Package name -> folder, for each folder and every package below it."""
    found = {f"fastadasp.{folder}": folder for folder in FOLDERS}
    for folder in FOLDERS:
        for name in find_packages(folder):
            found[f"fastadasp.{folder}.{name}"] = f"{folder}/{name.replace('.', '/')}"
    return found


setup(packages=list(packages()), package_dir=packages())
