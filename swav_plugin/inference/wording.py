"""Word numbers for messages and pages."""


def counted(number: int, noun: str) -> str:
    """Say how many there are of something.

    >>> counted(1, 'image'), counted(1200, 'image')
    ('1 image', '1,200 images')
    """
    return f'{number:,} {noun}{"s" * (number != 1)}'
