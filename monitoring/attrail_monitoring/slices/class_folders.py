"""A folder of class folders as a table: one row for each image, and the name of everything that is left out."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from attrail_explainers.errors import SliceError
from attrail_explainers.files.picture_source import suffixes

# What systems leave in folders by themselves, beside all names that begin with a dot; in small letters.
LITTER = {"__macosx", "@eadir", "$recycle.bin", "desktop.ini", "lost+found", "system volume information", "thumbs.db"}
# Folders that say which part of a data set they hold; in small letters.
SPLITS = {"dev", "eval", "holdout", "test", "testing", "train", "training", "val", "valid", "validation"}
NAMED = 5  # files that a sentence names


@dataclass(frozen=True, eq=False)
class FolderRows:
    """``rows`` with image (the path below the source), path and label (the class folder's name, "" for none).

    ``classes`` are the class folders' names, sorted, those without any image too. ``left_out`` names what is no image.
    """

    rows: pd.DataFrame
    classes: tuple[str, ...]
    left_out: tuple[str, ...]


def read_class_folders(name: str, source: Path, *, labelled: bool) -> FolderRows:
    """Every image below the source's folders, however deep, in the order of classes and paths.

    Unless it must be ``labelled``, images may lie in no class folder. Raises SliceError when there are no images, or
    when a class folder has files and no image among them: a class would be missing without a word; or for a folder of
    a data set's parts, whose class folders lie one level deeper.
    """
    found = _Found(source)
    try:
        found.look_into(source, (source.resolve(),))
    except OSError as error:
        raise SliceError(f"slice {name!r}: folder {source} cannot be read: {error}") from error
    classes = tuple(sorted(found.folders))
    images = sorted(found.images, key=lambda image: (_class_of(image), image.parts))
    if labelled:
        found.left_out += [f"{image} (in no class folder)" for image in images if not _class_of(image)]
        images = [image for image in images if _class_of(image)]
    if not images:
        where = " in class folders" if labelled else ""
        besides = f", only {named(found.left_out)}" if found.left_out else ""
        raise SliceError(f"slice {name!r}: {source} holds no images{where}{besides}")
    _require_no_splits(name, source, classes, images)
    _require_images(name, source, classes, images, found.others)
    present = {_class_of(image) for image in images}
    left_out = [*found.left_out, *(f"{each}/ (no image in it)" for each in classes if each not in present)]
    rows = pd.DataFrame(
        [(image.as_posix(), _class_of(image), str(source.absolute() / image)) for image in images],
        columns=["image", "label", "path"],
    )
    return FolderRows(rows, classes, tuple(sorted(left_out)))


def named(files: list[str] | tuple[str, ...]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
    return ", ".join(files[:NAMED]) + more


@dataclass(eq=False)
class _Found:
    """What is below a folder, by relative path."""

    source: Path
    folders: list[str] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def look_into(self, folder: Path, above: tuple[Path, ...]) -> None:
        """Sort everything in a folder; ``above`` are the folders that lead here, which a link must not enter again."""
        for entry in sorted(folder.iterdir()):
            place = entry.relative_to(self.source)
            if entry.name.startswith(".") or entry.name.lower() in LITTER:
                self.left_out.append(f"{place}/" if entry.is_dir() else str(place))
            elif entry.is_dir() and entry.resolve() in above:
                self.left_out.append(f"{place}/ (a link to a folder it lies in)")
            elif entry.is_dir():
                if folder == self.source:
                    self.folders.append(entry.name)
                self.look_into(entry, (*above, entry.resolve()))
            elif entry.suffix.lower() in suffixes():
                self.images.append(place)
            else:
                self.others.append(place)
                self.left_out.append(str(place))


def _class_of(image: Path) -> str:
    return image.parts[0] if len(image.parts) > 1 else ""


def _require_no_splits(name: str, source: Path, classes: tuple[str, ...], images: list[Path]) -> None:
    deeper = all(len(image.parts) > 2 for image in images)
    if deeper and len(classes) > 1 and all(each.lower() in SPLITS for each in classes):
        raise SliceError(
            f"slice {name!r}: {source} holds {named(classes)}, which are parts of a data set and no classes: give one "
            "of them as the source"
        )


def _require_images(name: str, source: Path, classes: tuple[str, ...], images: list[Path], others: list[Path]) -> None:
    present = {_class_of(image) for image in images}
    for each in classes:
        files = [str(other) for other in others if _class_of(other) == each]
        if each not in present and files:
            raise SliceError(
                f"slice {name!r}: folder {each} of {source} holds no image that can be read, only {named(files)}: "
                "convert its files, or take the folder away"
            )
