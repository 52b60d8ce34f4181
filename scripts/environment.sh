# Sourced by the scripts beside it: goes to the project's root and makes .venv there, once.
# PYTHON names the interpreter (3.11 to 3.13); a changed setup.cfg installs again, with uv where it can be had: pip takes
# three times as long.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Where Python may not keep what it compiles, each process compiles all of TensorFlow anew: 8 s, and tests start dozens.
unset PYTHONDONTWRITEBYTECODE

install_editable() {
    local uv
    uv=$(command -v uv || true)
    if [ -z "$uv" ] && .venv/bin/python -m pip install --quiet --disable-pip-version-check uv >&2; then
        uv=.venv/bin/uv
    fi
    if [ -n "$uv" ]; then
        "$uv" pip install --quiet --python .venv/bin/python --editable '.[test]' >&2
    else
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]' >&2
    fi
}

make_environment() {
    local stamp installed=.venv/installed
    stamp=$(cksum setup.cfg setup.py pyproject.toml)
    if [ -f "$installed" ] && [ "$(cat "$installed")" = "$stamp" ]; then
        return
    fi
    local python=${PYTHON:-} candidate
    if [ -z "$python" ]; then
        for candidate in python3.11 python3.12 python3.13 python3; do
            if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
                python=$candidate
                break
            fi
        done
    fi
    if [ -z "$python" ]; then
        echo "error: Python 3.11, 3.12 or 3.13 is needed; set PYTHON to one" >&2
        exit 1
    fi
    echo "making .venv with $("$python" --version): this takes a few minutes, once" >&2
    "$python" -m venv .venv
    install_editable
    echo "$stamp" >"$installed"
}

make_environment
