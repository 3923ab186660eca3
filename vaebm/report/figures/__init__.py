"""Pictures: charts, sheets of images and maps, each as bytes that a page or a file can hold.

`canvas` is the style and the only door to matplotlib, `sheet` lays out images pixel by pixel, and each other file
is one family of pictures.
"""
