"""The pixels of an image as models see them: the same for the check in prepare and for every later stage."""

import numpy as np
from PIL import Image, ImageOps


def upright_rgb(opened: Image.Image) -> Image.Image:
    """RGB as a viewer shows it: turned as its EXIF data say, on white where it is transparent, 16-bit grey in 8 bits."""
    image = ImageOps.exif_transpose(opened)
    if image.mode == "I" or image.mode.startswith("I;16"):
        # PIL's own conversion does not scale: it makes everything above 255 white.
        image = Image.fromarray(np.clip(np.asarray(image) >> 8, 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        # PIL's own conversion shows the colour below, which nobody was meant to see: black, as a rule.
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
