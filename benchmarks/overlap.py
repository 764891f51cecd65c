"""What `capcurr data overlap` finds, what it mistakes, and how fast it is, beside ImageHash and datasketch, which are
usual for this. All drawings and texts are made up here, and so are the leaks among them.

usage: .envs/core/bin/python benchmarks/overlap.py images [COUNT]    drawings of each style (120)
       .envs/core/bin/python benchmarks/overlap.py texts
       .envs/core/bin/python benchmarks/overlap.py speed [ROWS]      training rows (100,000) beside 40,000 questions

with the peers on the path: pip install --target peers imagehash datasketch, and PYTHONPATH=peers
"""

import io
import itertools
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import datasketch  # pyright: ignore[reportMissingImports]
import imagehash  # pyright: ignore[reportMissingImports]
import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from capcurr_plugin.data import lookalikes, wordings
from capcurr_plugin.data.lookalikes import Fingerprint, Fingerprinter, Lookalikes, fingerprint_of
from capcurr_plugin.images import open_image
from capcurr_plugin.reward.workers import cores

Picture = Image.Image
COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b")
LETTERS = "ABCDEFGHKLMNPQRS"
NOUNS = (
    "apple bridge candle doctor engine farmer garden hammer island jacket kettle ladder magnet needle orange".split()
)
WORDS = [*NOUNS, *"person year way day thing man world life hand part child eye woman place work week case".split()]


# Drawings, each style with what makes its pictures look alike


def paper(width: int = 800, height: int = 600) -> tuple[Picture, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (width, height), "white")
    return image, ImageDraw.Draw(image)


def write(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: object, size: int = 32) -> None:
    draw.text(place, str(text), fill="black", font=ImageFont.load_default(size))


def geometry(chance: random.Random) -> Picture:
    image, draw = paper()
    count = chance.choice([3, 3, 4, 4, 5])
    corners = []
    for turn in sorted(chance.uniform(0, 2 * math.pi) for _ in range(count)):
        size = chance.uniform(120, 280)
        corners.append((400 + size * math.cos(turn), 300 + size * math.sin(turn)))
    draw.polygon(corners, outline="black", width=4)
    if chance.random() < 0.5:
        size = chance.uniform(60, 200)
        draw.ellipse((400 - size, 300 - size, 400 + size, 300 + size), outline="black", width=4)
    for (x, y), letter in zip(corners, chance.sample(LETTERS, count), strict=True):
        write(draw, (x + chance.uniform(-30, 10), y + chance.uniform(-40, 10)), letter, 36)
    return image


def bar_chart(chance: random.Random) -> Picture:
    image, draw = paper()
    draw.line([(100, 40), (100, 520), (760, 520)], fill="black", width=3)
    for step in range(5):
        draw.line([(100, 40 + step * 96), (760, 40 + step * 96)], fill="#cccccc", width=2)
        write(draw, (40, 25 + step * 96), 100 - 20 * step, 28)
    for place in range(130, 760, 105):
        draw.rectangle((place, 520 - chance.uniform(20, 470), place + 70, 520), fill=COLOURS[1])
        write(draw, (place + 10, 530), chance.choice(["Jan", "Feb", "Mar", "Apr", "May", "Jun"]), 28)
    return image


def line_chart(chance: random.Random) -> Picture:
    image, draw = paper()
    draw.line([(100, 40), (100, 520), (760, 520)], fill="black", width=3)
    for colour in COLOURS[: chance.choice([1, 2, 3])]:
        height, points = chance.uniform(60, 500), []
        for place in range(110, 760, 58):
            points.append((place, height))
            height = min(510, max(50, height + chance.uniform(-110, 110)))
        draw.line(points, fill=colour, width=5)
    return image


def curve(chance: random.Random) -> Picture:
    image, draw = paper()
    draw.line([(400, 20), (400, 580)], fill="black", width=2)
    draw.line([(20, 300), (780, 300)], fill="black", width=2)
    a, b, c = chance.uniform(-0.01, 0.01), chance.uniform(-1.5, 1.5), chance.uniform(-150, 150)
    draw.line([(x + 400, 300 - (a * x * x + b * x + c)) for x in range(-380, 381, 5)], fill="black", width=4)
    return image


def pie(chance: random.Random) -> Picture:
    image, draw = paper()
    start, shares = chance.uniform(0, 360), [chance.uniform(0.2, 1) for _ in range(chance.choice([3, 4, 5, 6]))]
    for colour, share in zip(chance.sample(COLOURS, len(shares)), shares, strict=True):
        draw.pieslice((200, 100, 600, 500), start, start + 360 * share / sum(shares), fill=colour)
        start += 360 * share / sum(shares)
    return image


def shapes_in_a_grid(chance: random.Random) -> Picture:
    image, draw = paper(600, 600)
    for x in (40, 230, 420):
        for y in (40, 230, 420):
            colour, box = chance.choice(COLOURS), (x, y, x + 130, y + 130)
            form = chance.choice(["square", "circle", "triangle"])
            if form == "square":
                draw.rectangle(box, fill=colour)
            elif form == "circle":
                draw.ellipse(box, fill=colour)
            else:
                draw.polygon([(x, y + 130), (x + 130, y + 130), (x + 65, y)], fill=colour)
    return image


def other_colours(chance: random.Random) -> Picture:
    """The same four squares, in colours of their own."""
    image, draw = paper(600, 600)
    for x in (60, 320):
        for y in (60, 320):
            draw.rectangle((x, y, x + 180, y + 180), fill=chance.choice(COLOURS))
    return image


def scene(chance: random.Random) -> Picture:
    shade = np.linspace(150, 90, 600)[:, None, None] * np.ones((1, 800, 3))
    image = Image.fromarray(shade.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(chance.randrange(3, 9)):
        x, y, size = chance.uniform(60, 740), chance.uniform(200, 540), chance.uniform(20, 60)
        form = draw.ellipse if chance.random() < 0.5 else draw.rectangle
        form((x - size, y - size, x + size, y + size), fill=chance.choice(COLOURS))
    return image


def page(chance: random.Random) -> Picture:
    image, draw = paper(600, 800)
    for line in range(22):
        write(draw, (40, 30 + line * 34), " ".join(chance.choices(WORDS, k=chance.randrange(4, 9))), 24)
    return image


def photograph(chance: random.Random) -> Picture:
    """Noise with the spectrum of photographs."""
    noise = np.random.default_rng(chance.randrange(2**32)).standard_normal((4, 300, 400))
    away = np.hypot(*np.meshgrid(np.fft.fftfreq(400), np.fft.fftfreq(300)))
    away[0, 0] = 1
    waves = np.fft.fft2(noise) / away**1.2
    planes = np.real(np.fft.ifft2(waves[:3] + 2 * waves[3]))
    planes = (planes - planes.mean((1, 2), keepdims=True)) / planes.std((1, 2), keepdims=True)
    return Image.fromarray(np.clip(128 + 45 * planes.transpose(1, 2, 0), 0, 255).astype(np.uint8))


def table(chance: random.Random) -> Picture:
    """The same table, with other numbers."""
    image, draw = paper()
    for y in range(40, 560, 80):
        draw.line([(40, y), (760, y)], fill="black", width=2)
    for y in range(60, 540, 80):
        for x in range(60, 740, 140):
            write(draw, (x, y), chance.randrange(10, 9999), 30)
    return image


def other_labels(chance: random.Random) -> Picture:
    """The same triangle, with other letters and numbers."""
    image, draw = paper()
    draw.polygon([(160, 500), (640, 500), (300, 100)], outline="black", width=4)
    for place in ((120, 500), (660, 500), (290, 50)):
        write(draw, place, chance.choice(LETTERS), 36)
    for place in ((400, 520), (500, 270), (180, 270)):
        write(draw, place, chance.randrange(2, 99), 36)
    return image


STYLES: tuple[Callable[[random.Random], Picture], ...] = (
    *(geometry, bar_chart, line_chart, curve, pie, shapes_in_a_grid, other_colours, scene, page, photograph),
    *(table, other_labels),
)
SMALL_PRINT = ("table", "other_labels")  # styles whose pictures differ in nothing else
DISTANCE, SWEEP = lookalikes.DISTANCE, (24, 32, 40, 48, 56, 64)


# What happens to pictures on their way into training data


def stored(image: Picture, quality: int) -> bytes:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return content.getvalue()


def as_jpeg(image: Picture, quality: int) -> Picture:
    return Image.open(io.BytesIO(stored(image, quality))).convert("RGB")


def scaled(image: Picture, by: float) -> Picture:
    return image.resize((round(image.width * by), round(image.height * by)), Image.Resampling.BICUBIC)


def cropped(image: Picture, most: float, chance: random.Random) -> Picture:
    """Each side loses up to so much of the length."""
    left, top, right, bottom = (chance.uniform(0, most) for _ in range(4))
    width, height = image.size
    return image.crop(
        (round(left * width), round(top * height), round((1 - right) * width), round((1 - bottom) * height))
    )


CHANGES: dict[str, Callable[[Picture, random.Random], Picture]] = {
    "JPEG, quality 90": lambda image, _: as_jpeg(image, 90),
    "JPEG, quality 50": lambda image, _: as_jpeg(image, 50),
    "JPEG, quality 20": lambda image, _: as_jpeg(image, 20),
    "half the size": lambda image, _: scaled(image, 0.5),
    "a third, JPEG 60": lambda image, _: as_jpeg(scaled(image, 0.33), 60),
    "twice the size": lambda image, _: scaled(image, 2),
    "made square": lambda image, _: image.resize((448, 448)),
    "20 % brighter": lambda image, _: ImageEnhance.Brightness(image).enhance(1.2),
    "20 % darker": lambda image, _: ImageEnhance.Brightness(image).enhance(0.8),
    "30 % more contrast": lambda image, _: ImageEnhance.Contrast(image).enhance(1.3),
    "cropped by up to 1 %": lambda image, chance: cropped(image, 0.01, chance),
    "cropped by up to 2 %": lambda image, chance: cropped(image, 0.02, chance),
    "crop 2 %, 10 % brighter, JPEG 70": lambda image, chance: as_jpeg(
        scaled(cropped(ImageEnhance.Brightness(image).enhance(1.1), 0.02, chance), 0.6), 70
    ),
}
BEYOND: dict[str, Callable[[Picture, random.Random], Picture]] = {
    "cropped by up to 5 %": lambda image, chance: cropped(image, 0.05, chance),
    "cropped by up to 10 %": lambda image, chance: cropped(image, 0.1, chance),
    "flipped": lambda image, _: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


# Images


def looks_of(image: Picture) -> tuple[np.ndarray, bytes]:
    return np.where(imagehash.phash(image).hash.ravel(), 1, -1), fingerprint_of(image).looks


def signs_of(looks: Sequence[bytes]) -> np.ndarray:
    """1 and -1 for the bits of both hashes."""
    bits = [np.unpackbits(np.frombuffer(one[: lookalikes.HASH_BYTES], dtype=np.uint8)) for one in looks]
    return np.array(bits, dtype=np.float32) * 2 - 1


class Compared:
    """How far each of some pictures, stored and read as training data is, is from each of others."""

    def __init__(self, mine: Iterable[Picture], theirs: Iterable[Picture]) -> None:
        one = [looks_of(open_image(stored(image, 95), "a copy", lookalikes.SIDE)) for image in mine]
        other = [looks_of(image) for image in theirs]
        self.plain = (64 - np.array([plain for plain, _ in one]) @ np.array([plain for plain, _ in other]).T) // 2
        self._mine, self._theirs = ([looks for _, looks in looked] for looked in (one, other))
        mine_bits, their_bits = (signs_of(looks) for looks in (self._mine, self._theirs))
        halves = (slice(lookalikes.BITS), slice(lookalikes.BITS, None))
        apart = [(lookalikes.BITS - mine_bits[:, half] @ their_bits[:, half].T) / 2 for half in halves]
        self.hashes = np.maximum(*apart)

    def found(self, distance: int) -> np.ndarray:
        """As the command finds them."""
        known = Lookalikes(distance)
        for number, looks in enumerate(self._theirs):
            known.add(Fingerprint(str(number).encode(), looks))
        found = np.zeros(self.hashes.shape, dtype=bool)
        for place, matches in enumerate(known.matches([Fingerprint(b"", looks) for looks in self._mine])):
            found[place, [match.number for match in matches]] = True
        return found


def images(count: int) -> None:
    """A benchmark of drawings of every style; as training data a changed copy of each, and as many others."""
    print(
        f"{count} drawings of each style as a benchmark; a changed copy of each, and {count} others, as training data"
    )
    print("\nfound: of the copies (right), and pairs of different drawings (wrong)")
    ways = ("ImageHash phash, 10 bits", f"two hashes, {DISTANCE} bits", "and the copies, as used")
    print(f"{'':<18} {' '.join(f'{way:>24}' for way in ways)}")
    by_change: dict[str, list[bool]] = {name: [] for name in CHANGES | BEYOND}
    sums = np.zeros((len(SWEEP) + 1, 2), dtype=int)
    for style in STYLES:
        sums += one_style(style, count, by_change)
    print(f"\nof the copies are found, at {DISTANCE} bits, by how they were changed")
    for name, found in by_change.items():
        print(f"{name:<34} {np.mean(found):>7.1%}")
    total = count * (len(STYLES) - len(SMALL_PRINT))
    print(f"\n{'all but ' + ' and '.join(SMALL_PRINT):<34} {'recall':>7} {'precision':>10}")
    for distance, (right, wrong) in zip([*SWEEP, None], sums, strict=True):
        name = f"{distance} bits" if distance is not None else ways[0]
        print(f"{name:<34} {right / total:>7.1%} {right / max(1, right + wrong):>10.1%}")


def one_style(style: Callable[[random.Random], Picture], count: int, by_change: dict[str, list[bool]]) -> np.ndarray:
    """Right and wrong pairs at each distance, and by the 64-bit hash; none of a style of small print."""
    chance = random.Random(style.__name__)
    drawn, others = ([style(chance) for _ in range(count)] for _ in range(2))
    names = [name for name, _ in zip(itertools.cycle(CHANGES), drawn, strict=False)]
    changed = [CHANGES[name](image, chance) for name, image in zip(names, drawn, strict=True)]
    compared = Compared([*changed, *others], drawn)
    plain, used = compared.plain <= 10, compared.found(DISTANCE)
    columns = []
    for found in (plain, compared.hashes <= DISTANCE, used):
        right, wrong = right_and_wrong(found, count)
        columns.append(f"{right / count:>12.1%} {wrong:>10,}")
    print(f"{style.__name__:<18} {' '.join(columns)}", flush=True)
    for name, hit in zip(names, np.diag(used), strict=True):
        by_change[name].append(hit)
    part = drawn[: count // len(CHANGES)]
    for name, change in BEYOND.items():
        by_change[name] += list(np.diag(Compared([change(image, chance) for image in part], part).found(DISTANCE)))
    if style.__name__ in SMALL_PRINT:
        return np.zeros((len(SWEEP) + 1, 2), dtype=int)
    found = [*(compared.found(distance) for distance in SWEEP), plain]
    return np.array([right_and_wrong(one, count) for one in found])


def right_and_wrong(found: np.ndarray, count: int) -> tuple[int, int]:
    right = int(np.trace(found[:count]))
    return right, int(found.sum()) - right


# Texts

PLACES = "market school harbour station library factory museum garden bakery airport".split()
PROBLEMS = (
    "{A} has {1} {a}s and gives {2} of them to {B}, who already had {3}. Later {B} loses {4} {a}s on the way to "
    "the {p}. How many {a}s does {B} have in the end?",
    "As shown in the figure, the line {X}{Y} is a diameter of the circle with centre {Z}, and the angle at {W} "
    "measures {1} degrees. If the arc from {X} to {W} measures {2} degrees, what is the size of the angle "
    "{X}{Z}{W}?",
    "A {a} costs {1} dollars at the {p}, and a {b} costs {2} dollars more. {A} buys {3} {a}s and {4} {b}s. How "
    "much change does {A} get from a note of {5} dollars?",
    "The bar chart shows how many {a}s were sold at the {p} in each month of the year. By how many percent did "
    "the sales of {a}s grow from the month with the fewest to the month with the most sales?",
    "In triangle {X}{Y}{Z} the side {X}{Y} is {1} cm long, the side {Y}{Z} is {2} cm long, and the angle between "
    "these sides is {3} degrees. What is the area of the triangle, rounded to the nearest whole number?",
    "A train leaves the {p} at {1} o'clock with {2} passengers. At each of {3} stops {4} passengers get off and "
    "{5} get on, and every second passenger carries a {a}. How many {a}s are on the train when it arrives?",
    "Look at the scene. Which object stands to the left of the {a} and behind the {b}, if you look from the {c} "
    "that lies nearest to the viewer, and what is its colour?",
    "The table lists the prices of {a}s, {b}s and {c}s at the {p} on {1} days. {A} says that the median price of "
    "the {a}s is higher than the mean price of the {b}s. By how much does {A} err?",
)
SHORT = (
    "Is there a {a} in the image? Please answer yes or no.",
    "How many {a}s are there?",
    "What is the colour of the {a} next to the {b}?",
    "What is the difference between the highest and the lowest value of {a}?",
    "Which is larger, the {a} or the {b}?",
    "What does the {a} on the left of the {p} show?",
)
HINT = (
    "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.\nQuestion: "
)
REQUEST = (
    " Answer the question using a single word or phrase. Put your final answer in a box and explain your reasoning."
)
OPTIONS = "\nOptions:\nA. 12\nB. 15\nC. 20\nD. none of them"


def filled(template: str, chance: random.Random) -> str:
    values: dict[str, Any] = dict(zip("abc", chance.sample(NOUNS, 3), strict=True))
    values |= dict(zip("WXYZ", chance.sample(LETTERS, 4), strict=True))
    values |= dict(
        zip("AB", chance.sample(["Ann", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hana"], 2), strict=True)
    )
    values |= {"p": chance.choice(PLACES)} | {str(i): chance.randrange(2, 200) for i in range(1, 6)}
    for name, value in values.items():
        template = template.replace("{" + name + "}", str(value))
    return template


def misspelt(text: str, count: int, chance: random.Random) -> str:
    words = text.split()
    for place in chance.sample(range(len(words)), count):
        words[place] = words[place][::-1] + "x"
    return " ".join(words)


EDITS: dict[str, Callable[[str, random.Random], str]] = {
    "case and spaces": lambda text, _: text.upper().replace(" ", "  "),
    "punctuation": lambda text, _: text.replace(",", "").replace(".", " ;").replace("?", ""),
    "image mark and options": lambda text, _: "<image>\n" + text + OPTIONS,
    "with a hint before": lambda text, _: HINT + text,
    "with a request behind": lambda text, _: "<image>" + text + REQUEST,
    "1 word changed": lambda text, chance: misspelt(text, 1, chance),
    "2 words changed": lambda text, chance: misspelt(text, 2, chance),
    "3 words changed": lambda text, chance: misspelt(text, 3, chance),
}


def texts() -> None:
    """Questions of a benchmark, edited copies of them, and others of the same templates."""
    chance = random.Random(0)
    asked = [filled(template, chance) for template in PROBLEMS for _ in range(15)]
    shorts = [filled(template, chance) for template in SHORT for _ in range(60)]
    others = [filled(template, chance) for template in PROBLEMS for _ in range(500)]
    other_shorts = [filled(template, chance) for template in SHORT for _ in range(500)]
    sets = {name: [edit(text, chance) for text in asked] for name, edit in EDITS.items()}
    sets |= {"others of the long templates": others, "others of the short templates": other_shorts}
    print(f"{len(asked)} long and {len(shorts)} short questions as a benchmark; half of them with a hint before")
    print("of texts, the share that is found at a similarity of (0.7 is used), and by datasketch's MinHash with LSH")
    print(f"{'':<34} {'0.5':>6} {'0.6':>6} {'0.7':>6} {'0.8':>6} {'0.9':>6}   MinHash 0.5    0.7")
    known = [HINT + text if number % 2 else text for number, text in enumerate(asked + shorts)]
    indices = [index_of(known, similarity) for similarity in (0.5, 0.6, 0.7, 0.8, 0.9)]
    peers = [lsh_of(known, similarity) for similarity in (0.5, 0.7)]
    for name, edited in sets.items():
        shares = [np.mean([bool(index.asked_by(text)) for text in edited]) for index in indices]
        theirs = [np.mean([bool(peer.query(minhash(text))) for text in edited]) for peer in peers]
        print(f"{name:<34} {' '.join(f'{share:>6.1%}' for share in shares)}   {theirs[0]:>11.1%} {theirs[1]:>6.1%}")


def index_of(asked: Sequence[str], similarity: float = wordings.SIMILARITY) -> wordings.Questions:
    known = wordings.Questions(similarity)
    for number, text in enumerate(asked):
        known.add("benchmark", number, [text])
    known.close()
    return known


def minhash(text: str) -> datasketch.MinHash:
    """Of the same runs of words."""
    made = datasketch.MinHash(num_perm=128)
    made.update_batch([run.to_bytes(8, "little") for run in wordings.runs(wordings.normal(text))])
    return made


def lsh_of(asked: Sequence[str], similarity: float) -> datasketch.MinHashLSH:
    index = datasketch.MinHashLSH(threshold=similarity, num_perm=128)
    for number, text in enumerate(asked):
        index.insert(number, minhash(text))
    return index


# Speed

QUESTIONS = 40_000  # of all suites, and
PICTURES = 30_000  # about so many images
COMMAND = "import sys; from capcurr_plugin.cli import main; main(['data', 'overlap', *sys.argv[1:]]); " + (
    "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
)


def speed(rows: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        os.environ["CAPCURR_CACHE"] = place
        speed_of_texts(rows, Path(place))
        speed_of_fingerprints(Path(place))
    speed_of_matching()


def speed_of_texts(rows: int, place: Path) -> None:
    chance = random.Random(0)
    asked = [filled(chance.choice(PROBLEMS + SHORT), chance) for _ in range(QUESTIONS)]
    for number in range(18):
        with (place / f"benchmark{number}.tsv").open("w") as file:
            file.write("index\tquestion\n")
            file.writelines(f"{index}\t{text}\n" for index, text in enumerate(asked[number::18]))
    texts = [filled(chance.choice(PROBLEMS + SHORT), chance) + REQUEST for _ in range(rows)]
    with (place / "rows.jsonl").open("w") as file:
        for number, text in enumerate(texts):
            row = {"index": str(number), "problem": text, "answer": "1", "images": [], "source": "made up"}
            file.write(json.dumps(row) + "\n")
    command = [sys.executable, "-c", COMMAND, place / "rows.jsonl", "--benchmarks", place, "--compare", "texts"]
    start = time.perf_counter()
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    seconds, peak = time.perf_counter() - start, int(done.stdout.split()[-1]) / 1024
    print(f"{rows:,} rows beside {QUESTIONS:,} questions, the whole command: {seconds:.0f} s, at most {peak:.0f} MB")
    some, questions = texts[:2_000], asked[:2_000]
    index, peer = index_of(questions), lsh_of(questions, 0.5)
    ours, theirs = seconds_of(index.asked_by, some), seconds_of(lambda text: peer.query(minhash(text)), some)
    print(f"{len(some):,} texts beside {len(questions):,}, one after the other: {len(some) / ours:,.0f}/s;", end=" ")
    print(f"datasketch {len(some) / theirs:,.0f}/s; {theirs / ours:.1f} times as fast", flush=True)


def seconds_of(work: Callable[[Any], object], items: Iterable[Any]) -> float:
    start = time.perf_counter()
    for item in items:
        work(item)
    return time.perf_counter() - start


def speed_of_fingerprints(place: Path) -> None:
    chance = random.Random(0)
    files = []
    for number in range(200):
        files.append(place / f"{number}.jpg")
        files[-1].write_bytes(stored(scaled(photograph(chance), 2.56), 90))  # 1024 x 768
    for number in range(100):
        files.append(place / f"{number}.png")
        page(chance).save(files[-1])
    print(f"\n{len(files)} images, 200 photographs of 1024 x 768 and 100 pages of 600 x 800")
    ours = seconds_of(lambda file: fingerprint_of(open_image(file, file.name, lookalikes.SIDE)), files)
    theirs = seconds_of(lambda file: imagehash.phash(Image.open(file)), files)
    print(f"one after the other {len(files) / ours:,.0f}/s;", end=" ")
    print(f"ImageHash phash {len(files) / theirs:,.0f}/s; {theirs / ours:.1f} times as fast", flush=True)
    for name in (f"{cores()} cores", "kept"):
        with Fingerprinter(place / "fingerprints.sqlite") as fingerprinter:
            seconds = seconds_of(fingerprinter.all, [[(file, file.name) for file in files]])
            print(f"{name}: {len(files) / seconds:,.0f}/s", flush=True)


def speed_of_matching() -> None:
    chance = random.Random(0)
    size = lookalikes.HASH_BYTES + lookalikes.COPY_BYTES
    known = Lookalikes()
    for number in range(PICTURES):
        known.add(Fingerprint(str(number).encode(), chance.randbytes(size)))
    asked = [Fingerprint(b"", chance.randbytes(size)) for _ in range(4096)]
    seconds = seconds_of(known.matches, [asked])
    print(f"\nmatching with {PICTURES:,} images: {len(asked) / seconds:,.0f} images/s")


def main() -> None:
    what, *more = sys.argv[1:] or [""]
    if what == "images":
        images(int(more[0]) if more else 120)
    elif what == "texts":
        texts()
    elif what == "speed":
        speed(int(more[0]) if more else 100_000)
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
