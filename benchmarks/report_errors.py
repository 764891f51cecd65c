"""How long `capcurr report` takes over a page of errors, each with a photo of its own, how large the page is, and how
soon Chromium shows it; beside Pillow, which only makes the same small pictures.

usage: .envs/core/bin/python benchmarks/report_errors.py [ERRORS]
"""

import random
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from convert import measure

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT / "tests" / "core"))

from browser import chromium  # noqa: E402  # pyright: ignore[reportMissingImports]
from study_samples import some_records, write_attribution  # noqa: E402  # pyright: ignore[reportMissingImports]

from capcurr_plugin.attribution.records import images_folder  # noqa: E402

REPORT = """
import sys; from capcurr_plugin.cli import main
sys.exit(main(['report', sys.argv[2], '--attribution', sys.argv[1], '--errors', '10000']))"""
PILLOW = """
import io, sys; from pathlib import Path; from PIL import Image
for path in Path(sys.argv[1]).with_name('errors_images').iterdir():
    image = Image.open(path)
    image.thumbnail((640, 640))
    image.save(io.BytesIO(), 'WEBP', quality=80, method=2)"""
WORDS = "the bar on the left of the chart is taller than that on its right so we add both and look again ".split()


def write_errors(path: Path, count: int) -> None:
    chance = random.Random(0)
    records = []
    for number, one in enumerate(some_records(count, images=1)):
        thought = " ".join(chance.choices(WORDS, k=1200))
        response = f"{thought[:3000]} {one.response} {thought[3000:]}"
        records.append(replace(one, response=response, images=(f"{number}.png",)))
    write_attribution(path, records)
    for number in range(count):
        write_photo(images_folder(path) / f"{number}.png", number)


def write_photo(path: Path, number: int) -> None:
    """Smooth colours with some noise, 1280 x 960, stored as JPEG."""
    import numpy
    from PIL import Image

    generator = numpy.random.default_rng(number)
    image = Image.fromarray(generator.integers(0, 256, (24, 32, 3), dtype=numpy.uint8))
    pixels = numpy.asarray(image.resize((1280, 960), Image.Resampling.BICUBIC), float)
    noisy = pixels + generator.normal(0, 6, pixels.shape)
    Image.fromarray(noisy.clip(0, 255).astype(numpy.uint8)).save(path, "JPEG", quality=90)


def show(page_file: Path) -> tuple[float, float]:
    """Seconds until Chromium shows the first errors, and until it has filtered them."""
    filtering = """() => {
        const start = performance.now(), search = document.getElementById('errors-benchmark');
        search.selectedIndex = 1;
        search.dispatchEvent(new Event('change'));
        return (performance.now() - start) / 1000;
    }"""
    with chromium() as browser:
        page = browser.new_page()
        start = time.perf_counter()
        page.goto(page_file.as_uri())
        page.locator(".card").first.wait_for()
        return time.perf_counter() - start, page.evaluate(filtering)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000
    with tempfile.TemporaryDirectory() as folder:
        for errors in (count // 10, count):
            source, page = Path(folder) / "errors.jsonl", Path(folder) / "page.html"
            write_errors(source, errors)
            for name, program in (("capcurr report", REPORT), ("Pillow, the pictures alone", PILLOW)):
                seconds, peak = measure(program, source, page)
                print(f"{name:<28} {errors:>6,} errors {seconds:>7.1f} s {peak:>6.0f} MB of memory", flush=True)
            shown, filtered = show(page)
            size = page.stat().st_size / (1 << 20)
            print(f"the page: {size:.1f} MiB, shown in {shown:.2f} s, filtered in {filtered:.3f} s", flush=True)


if __name__ == "__main__":
    main()
