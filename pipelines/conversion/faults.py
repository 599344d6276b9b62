"""What is wrong with a file, in a sentence that a child can hand to its worker."""


class BadFile(Exception):
    """The file cannot be read; the text is a sentence for people that names it."""
