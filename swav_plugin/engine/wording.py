"""Word numbers for messages and pages, and mark what matters."""


class Alarm(str):
    """A note for the log that is to be a warning there."""


def counted(number: int, noun: str) -> str:
    """Say how many there are of something.

    >>> counted(1, 'image'), counted(1200, 'image'), counted(2, 'class')
    ('1 image', '1,200 images', '2 classes')
    """
    plural = 'es' if noun.endswith('s') else 's'
    return f'{number:,} {noun}{plural * (number != 1)}'
