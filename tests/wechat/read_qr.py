"""Prints the text of the one QR code in a picture."""

import sys

import zxingcpp
from PIL import Image

codes = zxingcpp.read_barcodes(Image.open(sys.argv[1]).convert("L"))
if len(codes) != 1:
    sys.exit(f"{len(codes)} codes in {sys.argv[1]}")
print(codes[0].text)
