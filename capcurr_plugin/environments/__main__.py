"""`python -m capcurr_plugin.environments NAME...` makes the named environments, and `--lock` renews their locks."""

from __future__ import annotations  # an older python3 may run this, to find a newer one

import sys

from capcurr_plugin.environments import ENVIRONMENTS, EnvironmentFailed, ensure, renew_lock


def main(argv: list[str]) -> int:
    renew = "--lock" in argv
    names = [name for name in argv if name != "--lock"] or list(ENVIRONMENTS)
    unknown = [name for name in names if name not in ENVIRONMENTS]
    if unknown:
        print(f"error: no environment is called {unknown[0]!r}; there are {', '.join(ENVIRONMENTS)}", file=sys.stderr)
        return 2
    try:
        for name in names:
            if renew:
                renew_lock(ENVIRONMENTS[name])
            else:
                ensure(name)
    except EnvironmentFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
