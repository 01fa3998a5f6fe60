"""The pure engine: values in, values out."""
