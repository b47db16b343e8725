#!/bin/sh
# Find a Python that is new enough, and let it set up the rest: tools/setup.sh [EXTRA ...]
for python in python3 python3.13 python3.12 python3.11; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        exec "$python" "$(dirname "$0")/setup_env.py" "$@"
    fi
done
found=$(python3 -c 'import platform; print(platform.python_version())' 2>/dev/null)
echo "setup: Python 3.11 or newer not found${found:+ (python3 is $found)}; on Debian: apt install python3.11 python3.11-venv" >&2
exit 1
