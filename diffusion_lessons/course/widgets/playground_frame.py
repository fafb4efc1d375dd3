"""The site's playground in a notebook: models draw in the browser, and no kernel is asked.

The notebook holds a picture and a script. The script finds the playground's page where the lesson is a page
of the site, or where `diffusion-lessons lab` opened JupyterLab in a repository whose site was made.
Elsewhere, and where scripts are refused, the picture stays, with a sentence that says what to do.
"""

import torch

from diffusion_lessons import zoo
from diffusion_lessons.course.lessons import PLAYGROUND
from diffusion_lessons.course.widgets.module import asset
from diffusion_lessons.course.widgets.page import Card, image_tag, markup
from diffusion_lessons.course.widgets.strips import strip
from diffusion_lessons.generate import generate

MODEL, STEPS, GUIDANCE = "mnist-unet", 10, 2.0  # what the playground begins with
WHERE = (
    "The playground draws in your browser, without a kernel, where its files are: on this lesson's page in "
    "the site that `make site` makes, read from a server; or here, after `make site` and then `make lab`."
)


def playground() -> Card:
    """Choose digit, sampler, steps and guidance, and scrub through what the bundled models draw in the page.

    The notebook keeps a picture of ten digits and a button. Only when that is pressed are the models fetched,
    from where the page came from: 16 MB for digits, most of it ONNX Runtime.
    """
    model = zoo.load(MODEL)
    digits = generate(model, torch.arange(len(model.classes)), steps=STEPS, guidance=GUIDANCE)
    alt = f"Digits 0 to 9 drawn by {MODEL} in {STEPS} steps at guidance {GUIDANCE:g}."
    shown = strip(digits, alt, model.classes, len(digits))
    html = f"<div data-dl-playground-frame>{image_tag(shown.png, alt)}<p><em>{markup(WHERE)}</em></p></div>"
    script = f'const PAGE = "{PLAYGROUND}";\n{asset("playground_frame.js")}'
    return Card(f"Playground: {alt}", f'{html}<script type="module">\n{script}\n</script>')
