"""The worker process in which math-verify decides what the cheaper tiers could not. Its memory is capped, and whoever
asks kills it when it takes too long: sympy can neither be bounded nor interrupted from within.

Speaks JSON lines: one `[answer, ground_truth]` in, one `true` or `false` out; says `null` once when it is ready.
"""

import contextlib
import json
import resource
import sys

MEMORY = 2 << 30  # bytes of address space; importing sympy takes about a third


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    replies = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # what the libraries print is no reply
        from math_verify import parse, verify

        print("null", file=replies, flush=True)
        for line in sys.stdin:
            answer, truth = json.loads(line)
            equal = False
            # sympy raises whatever comes to it on what a model may write; such an answer is not shown to be right
            with contextlib.suppress(Exception):
                # No timeouts of its own: they rely on signals, and the asker's clock decides
                sides = [parse(f"${text}$", parsing_timeout=0) for text in (truth, answer)]
                equal = bool(verify(sides[0], sides[1], timeout_seconds=0))
            print(json.dumps(equal), file=replies, flush=True)


if __name__ == "__main__":
    main()
