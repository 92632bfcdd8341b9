"""Draws the method, ``architecture.svg``, and one of its two networks, ``network.svg``, into a folder.

    python img/architecture.py img

Plain SVG for light and dark pages: each figure brings its own ground and follows the reader's colour scheme. The
colours of the branches are Okabe and Ito's blue and vermilion (orange on dark), which the colour-blind tell apart.
"""

import re
import sys
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from furnace.utils.errors import RunError, UserError, print_error
from furnace.utils.files import write_text

WIDTH = 830  # of a README on GitHub: a unit is a pixel there
SIZE, SMALL = 15, 13  # of text
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
SYMBOL = re.compile(r'\*(\w+?)(?:_(\w+))?\*')  # *p_1*: italic, with a subscript

# kind: (fill, stroke) on light and on dark pages
BOXES = {
    'ground': (('#ffffff', '#d1d9e0'), ('#0d1117', '#3d444d')),
    'band': (('#f3f5f7', 'none'), ('#1a2029', 'none')),
    'data': (('#ffffff', '#6e7781'), ('#0d1117', '#8b949e')),
    'one': (('#d9ebf7', '#0072b2'), ('#0c324c', '#56b4e9')),
    'two': (('#fbe3d5', '#d55e00'), ('#4d2a06', '#e69f00')),
}
INK, LINE = ('#1f2328', '#f0f6fc'), ('#59636e', '#9da7b3')


class Drawing:
    """Boxes, texts and arrows by their coordinates.

    Attributes:
        frames: (left, top, right, bottom) of each box but the bands.
        texts: the same of each line of text, its width estimated.
    """

    def __init__(self):
        self.parts, self.frames, self.texts = [], [], []

    def box(self, x: float, y: float, width: float, height: float, *lines: str, kind: str = 'data') -> None:
        """A box with its text centred; the first line stands out if there are more."""
        self.parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>')
        if kind != 'band':
            self.frames.append((x, y, x + width, y + height))
        top = y + height / 2 - 10 * (len(lines) - 1) + 5
        for number, line in enumerate(lines):
            large = number == 0 and height > 30
            self.text(x + width / 2, top + 20 * number, line, SIZE if large else SMALL, large and len(lines) > 1)

    def text(self, x: float, y: float, content: str, size: int = SMALL, bold: bool = False) -> None:
        """A line centred at x, its baseline at y."""
        spans, end, drop = [], 0, 0
        for symbol in SYMBOL.finditer(content):
            spans.append(_span(content[end : symbol.start()], -drop))
            spans.append(_span(symbol[1], -drop if symbol.start() == end else 0, 'font-style="italic"'))
            drop = 4 if symbol[2] else 0
            spans.append(_span(symbol[2] or '', drop, 'font-size="12"'))
            end = symbol.end()
        spans.append(_span(content[end:], -drop))
        weight = ' font-weight="600"' if bold else ''
        self.parts.append(f'<text x="{x}" y="{y}" font-size="{size}"{weight}>{"".join(spans)}</text>')
        half = (0.32 if bold else 0.275) * size * len(SYMBOL.sub(r'\1\2', content))
        self.texts.append((x - half, y - size, x + half, y + 4))

    def arrow(self, *points: tuple[float, float], gradient: bool = True) -> None:
        """A line through the points with a head at the last; dashed where no gradient flows back."""
        path = ' '.join(f'{x},{y}' for x, y in points)
        dashes = '' if gradient else ' stroke-dasharray="5 4"'
        self.parts.append(f'<polyline class="line" points="{path}"{dashes} marker-end="url(#head)"/>')

    def svg(self, height: float, title: str, description: str) -> str:
        """The file's content."""
        schemes = [
            ''.join(f'.{kind}{{fill:{b[dark][0]};stroke:{b[dark][1]}}}' for kind, b in BOXES.items())
            + f'text{{fill:{INK[dark]}}}.line{{stroke:{LINE[dark]}}}.head{{fill:{LINE[dark]}}}'
            for dark in (0, 1)
        ]
        head = f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">
<title>{escape(title)}</title>
<desc>{escape(description)}</desc>
<style>
text{{font-family:{FONT};text-anchor:middle}}rect{{stroke-width:1.5}}.line{{fill:none;stroke-width:1.5}}
{schemes[0]}
@media (prefers-color-scheme:dark){{{schemes[1]}}}
</style>
<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" \
orient="auto"><path class="head" d="M0,0.5 8,4 0,7.5z"/></marker>
<rect class="ground" x="1" y="1" width="{WIDTH - 2}" height="{height - 2}" rx="8"/>
"""
        return head + '\n'.join(self.parts) + '\n</svg>'


def _span(content: str, dy: float, style: str = '') -> str:
    """Text moved down by dy from where the last span left off."""
    if not content:
        return ''
    shift = f' dy="{dy}"' if dy else ''
    return f'<tspan{shift} {style}>'.replace(' >', '>') + escape(content) + '</tspan>'


COLUMN, BOX, HIGH = 162, 134, 50  # distance of the columns; width and height of a box
X = [24 + COLUMN * i for i in range(5)]  # left edges: loss 1, branch 1, images, branch 2, loss 2
MID = [x + BOX / 2 for x in X]


def method() -> tuple[Drawing, float]:
    """One training step from top to bottom, branch 1 on the left, branch 2 on the right; and the figure's height."""
    d = Drawing()
    d.box(12, 12, WIDTH - 24, 140, kind='band')
    d.text(MID[2], 34, '1 · Both branches learn from labelled images', SIZE, True)
    _pass(d, 46, ('*x*', 'labelled images'), 'supervised', [('*sup_1*', 'cross-entropy'), ('*sup_2*', 'cross-entropy')])
    _below(d, 46, 'labels *y*', 'target *y*')

    d.box(12, 162, WIDTH - 24, 140, kind='band')
    d.text(MID[2], 184, '2 · As teachers, both label unlabelled images', SIZE, True)
    results = [('*p_1*, *c_1*', 'label, confidence'), ('*p_2*, *c_2*', 'label, confidence')]
    _pass(d, 196, ('*u_0*, *u_1*', 'unlabelled images'), 'teacher', results, gradient=False)
    _below(d, 196, 'CutMix mask *m*', 'mixed by *m*')

    d.box(12, 312, WIDTH - 24, 204, kind='band')
    d.text(MID[2], 334, '3 · Where do the teachers agree?', SIZE, True)
    d.box(
        X[1], 346, X[3] + BOX - X[1], HIGH,
        'agree: *p_1* = *p_2*  ·  differ: *p_1* ≠ *p_2*',
        'class-wise disagreement *w*: how often they differ on a class',
    )  # fmt: skip
    wide = (X[4] + BOX - X[0] - 24) / 2
    right = WIDTH / 2 + 12
    d.box(
        X[0], 428, wide, 76,
        'intersection (conservative)',
        'agree: *p_1*, weight (*c_1* + *c_2*) / 2', 'differ: void, no loss', kind='one',
    )  # fmt: skip
    d.box(
        right, 428, wide, 76,
        'union (progressive)',
        'agree: *p_1*, weight (*c_1* + *c_2*) / 2',
        'differ: *p_1* with *c_1* if *w*[*p_1*] > *w*[*p_2*], else *p_2* with *c_2*', kind='two',
    )  # fmt: skip
    for outer, edge, inner in ((X[0] + 30, X[1], MID[1]), (X[4] + BOX - 30, X[3] + BOX, MID[3])):
        d.arrow((outer, 196 + HIGH), (outer, 371), (edge, 371), gradient=False)
        d.arrow((inner, 346 + HIGH), (inner, 428), gradient=False)

    d.box(12, 526, WIDTH - 24, 96, kind='band')
    d.text(MID[2], 548, '4 · As students, both learn from the mixed image', SIZE, True)
    losses = [('*L_inter*', 'weighted CE'), ('*L_union*', 'weighted CE')]
    _pass(d, 560, ('mixed image', '*u_0*(1 − *m*) + *u_1* *m*'), 'student', losses)
    for i in (0, 4):
        d.arrow((MID[i], 504), (MID[i], 560), gradient=False)

    d.box(X[0], 634, wide, 40, 'loss = *sup_1* + *sup_2* + λ (*L_inter* + *L_union*)')
    d.box(right, 634, wide, 40, 'inference: image → branch 1 → label', kind='one')
    d.arrow((230, 696), (270, 696))
    d.text(330, 701, 'with gradient')
    d.arrow((430, 696), (470, 696), gradient=False)
    d.text(526, 701, 'no gradient')
    return d, 718


def _pass(d: Drawing, y: float, images: tuple, part: str, results: list[tuple], gradient: bool = True) -> None:
    """Images in the middle go through the branches on both sides, which give a result each."""
    d.box(X[2], y, BOX, HIGH, *images)
    for k, (branch, result, step) in enumerate(((1, 0, -1), (3, 4, 1))):
        d.box(X[branch], y, BOX, HIGH, f'branch {k + 1}', part, kind=('one', 'two')[k])
        d.box(X[result], y, BOX, HIGH, *results[k])
        for source, target in ((2, branch), (branch, result)):
            d.arrow((MID[source] + step * BOX / 2, y + 25), (MID[target] - step * BOX / 2, y + 25), gradient=gradient)


def _below(d: Drawing, y: float, content: str, caption: str) -> None:
    """A box below the images whose content goes to both results, with a caption above each arrow."""
    middle = y + HIGH + 33
    d.box(X[2], middle - 17, BOX, 34, content)
    for branch, result, edge in ((1, 0, X[2]), (3, 4, X[2] + BOX)):
        d.arrow((edge, middle), (MID[result], middle), (MID[result], y + HIGH), gradient=False)
        d.text(MID[branch], middle - 6, caption)


def network() -> tuple[Drawing, float]:
    """One network: backbone from left to right, ASPP from right to left, decoder from left to right; and the height."""
    d = Drawing()
    width = 112
    left = [24 + 134 * i for i in range(6)]
    mid = [x + width / 2 for x in left]

    def row(y: float, *boxes: tuple[str, ...]) -> None:
        for i, lines in enumerate(boxes):
            d.box(left[i], y, width, 74, *lines)
            if i:
                d.arrow((left[i - 1] + width, y + 37), (left[i], y + 37))

    d.box(12, 12, WIDTH - 24, 132, kind='band')
    d.text(WIDTH / 2, 34, 'Backbone: ResNet-50 or -101 with a deep stem; layer 4 dilated by 2, 4, 8', SIZE, True)
    layers = [(f'layer {i}', f'{128 << i} channels', f'stride {min(2 << i, 16)}') for i in (1, 2, 3, 4)]
    row(46, ('image', '3 channels'), ('stem', '3 × conv 3×3', 'max pooling'), *layers)

    d.box(148, 154, WIDTH - 160, 206, kind='band')
    d.text(mid[3], 176, 'ASPP: image pooling is added, not concatenated', SIZE, True)
    heights = [204 + 34 * i for i in range(5)]
    pooling = heights[4]
    d.arrow((mid[5], 120), (mid[5], pooling), (left[4] + width, pooling))
    for y, content in zip(heights, ('conv 1×1', '3×3, rate 6', '3×3, rate 12', '3×3, rate 18', 'mean'), strict=True):
        d.box(left[4], y - 14, width, 28, content)
        d.arrow((left[4], y), (left[3] + width, y))
        if y < pooling:
            d.arrow((mid[5], y), (left[4] + width, y))
    d.box(left[3], 190, width, 130, 'concat', '1024 channels', 'BN, LeakyReLU', 'conv 1×1, 256')
    d.box(left[3], pooling - 14, width, 28, '2 × conv 1×1')
    d.arrow((left[3], pooling), (mid[2], pooling), (mid[2], 292))
    d.box(left[2], 218, width, 74, 'add', '256 channels', 'BN, LeakyReLU')
    d.arrow((left[3], 255), (left[2] + width, 255))
    d.box(left[1], 218, width, 74, 'upsample', 'to stride 4')
    d.arrow((left[2], 255), (left[1] + width, 255))

    d.box(12, 370, WIDTH - 24, 120, kind='band')
    d.text(mid[3], 392, 'Decoder', SIZE, True)
    row(
        404,
        ('reduce', 'conv 1×1, 48', 'BN, ReLU'), ('concat', '256 + 48'), ('refine', '2 × conv 3×3', 'BN, ReLU'),
        ('classify', 'conv 1×1'), ('upsample', 'to stride 1'), ('logits', 'one per class'),
    )  # fmt: skip
    d.arrow((mid[2], 120), (mid[2], 134), (mid[0], 134), (mid[0], 404))
    d.arrow((mid[1], 292), (mid[1], 404))
    return d, 502


FIGURES = {
    'architecture.svg': (
        method,
        'One training step of CPCL',
        'Labelled images train both branches. Both label the unlabelled images, without gradient; labels and '
        'confidences are mixed by the CutMix mask. Where they agree, branch 1 learns the intersection; branch 2 learns '
        'the union, which where they differ takes the class of greater disagreement. Branch 1 is used for inference.',
    ),
    'network.svg': (
        network,
        'One network: DeepLabv3+',
        'A ResNet with a deep stem; atrous spatial pyramid pooling with rates 6, 12 and 18, to which the image pooling '
        'is added; a decoder that joins it with the map of layer 1.',
    ),
}


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print('usage: python img/architecture.py FOLDER', file=sys.stderr)
        return 2
    for name, (draw, title, description) in FIGURES.items():
        drawing, height = draw()
        path = Path(arguments[0], name)
        try:
            write_text(path, drawing.svg(height, title, description))
        except (RunError, UserError) as error:
            return print_error(error)
        print(path)
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
