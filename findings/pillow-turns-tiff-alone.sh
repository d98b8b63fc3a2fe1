#!/usr/bin/env bash
# The same picture with the same orientation tag opens upright from a TIFF file and lying on its side from all others.
#
# Versions:  Pillow 13.0.0, Python 3.11.
# Behaviour: a TIFF's orientation is applied when it is opened: its size is already the turned one, the tag is gone.
#            JPEG, PNG, WebP and AVIF keep pixels and tag as they lie in the file. Images and masks of two formats, or a
#            data set converted from one format to the other, then do not lie over each other.
# Way out:   ImageOps.exif_transpose on everything, which finds nothing left to do on a TIFF. "As stored" is to be had
#            of a TIFF only by turning it back.
#
# Seen:      TIFF (2, 4) None
#            JPEG (4, 2) 6
#            PNG (4, 2) 6
#            WEBP (4, 2) 6
#            AVIF (4, 2) 6
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" - 2>log <<'PYTHON' | tee seen || { cat log; exit 1; }
import io

from PIL import Image

tags = Image.Exif()
tags[0x0112] = 6  # turn by 90 degrees
for kind in ("TIFF", "JPEG", "PNG", "WEBP", "AVIF"):
    file = io.BytesIO()
    Image.new("RGB", (4, 2)).save(file, kind, exif=tags)
    with Image.open(file) as opened:
        opened.load()
        print(kind, opened.size, opened.getexif().get(0x0112))
PYTHON
diff seen - <<'SEEN'
TIFF (2, 4) None
JPEG (4, 2) 6
PNG (4, 2) 6
WEBP (4, 2) 6
AVIF (4, 2) 6
SEEN
