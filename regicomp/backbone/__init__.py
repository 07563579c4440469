"""The codecs: MLIC++, and CompressAI's, coded faster and evaluated as they are coded."""
