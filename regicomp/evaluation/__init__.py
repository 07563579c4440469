"""Images through bytes and back, measured; classical codecs; the record."""
