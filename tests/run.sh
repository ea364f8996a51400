#!/usr/bin/env bash
# The one test command: format, lints, every test of the workspace against a real Kafka and PostgreSQL,
# the drills, the demo. On a fresh Debian it installs what it needs when it is root; otherwise it says the one command.
#
#   tests/run.sh                 all of it
#   DRILL_ROUNDS=20 tests/run.sh longer drills (0: none)
#   TEST_LIMIT=3000              seconds for all tests of the workspace, drills and demo not included
#
# Last line: "N passed, N failed". Exit 0 only when nothing failed and something ran.
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/prerequisites.sh

target=${CARGO_TARGET_DIR:-target}
log=$target/run.log
times=()
mkdir -p "$target"

phase() { # phase NAME COMMAND...: runs, times and stops at the first failure
  local name=$1 start=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  "$@"
  times+=("$(printf '%-28s %4d s' "$name" $((SECONDS - start)))")
}

prerequisites() {
  need_packages python3 python3-venv
  need_rust
  # The stock client of docs/subscriber.md, which a test runs as it stands on the page.
  MIANZHENG_PYTHON=$(realpath "$target")/venv/bin/python
  export MIANZHENG_PYTHON
  if ! "$MIANZHENG_PYTHON" -c 'import confluent_kafka.schema_registry.avro, cryptography' 2>/dev/null; then
    python3 -m venv "$target/venv"
    "$target/venv/bin/pip" install --quiet --disable-pip-version-check -r tests/requirements.txt
  fi
}

tests() {
  # --no-fail-fast: one run names every failure. The sum below decides, then the exit code does.
  local status=0
  # A test that hangs is a failure like any other: without a limit nothing below would ever be said.
  timeout "${TEST_LIMIT:-3000}" cargo test --workspace --locked --no-fail-fast 2>&1 | tee "$log" || status=$?
  if [ "$status" -eq 124 ]; then
    echo "Not finished in ${TEST_LIMIT:-3000} s: see which test was running last." >&2
  fi
  read -r passed failed < <(awk '/^test result:/ { p += $4; f += $6 } END { print p + 0, f + 0 }' "$log")
  if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
  if [ "$passed" -eq 0 ]; then
    echo "No test ran." >&2
    failed=$((failed + 1))
  fi
}

drill() { # drill [MODE]
  if [ "${DRILL_ROUNDS:-3}" -eq 0 ]; then return; fi
  if bash tests/drill.sh "$@" "${DRILL_ROUNDS:-3}"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
  fi
}

# The README's first command, with the assertions it makes on the way.
demo() {
  if MIANZHENG_BIN=$target/debug/mianzheng deploy/demo.sh >"$target/demo.log" 2>&1; then
    passed=$((passed + 1))
    tail -n 8 "$target/demo.log"
  else
    failed=$((failed + 1))
    tail -n 40 "$target/demo.log"
  fi
}

build() {
  cargo test --workspace --locked --no-run
  # The programs that the tests, the drill and the demo run; named alike everywhere, so that they are built once.
  cargo build --locked -p mianzheng -p mz-e2e --bin mianzheng --bin mz-drill
  MIANZHENG_BIN=$(realpath "$target")/debug/mianzheng
  export MIANZHENG_BIN
}

# Every relative link of a page leads to a file.
pages() {
  local page link broken=0
  while IFS=: read -r page link; do
    link=${link#](} link=${link%)} link=${link%%#*}
    if [ -n "$link" ] && [ ! -e "$(dirname "$page")/$link" ]; then
      printf '%s: no such file: %s\n' "$page" "$link" >&2
      broken=1
    fi
  done < <(git ls-files '*.md' | xargs grep -oE '\]\((\.\./|[A-Za-z0-9_])[^):]*\)' /dev/null)
  return $broken
}

# Tests share one stack and leave it running for the next `cargo test`; this command leaves nothing behind.
stop_stack() {
  if [ -x "$target/debug/mianzheng" ] && [ -e "$target/test-stack/stack.json" ]; then
    "$target/debug/mianzheng" --dir "$target/test-stack" stack down >/dev/null 2>&1 || true
  fi
}
trap stop_stack EXIT

passed=0 failed=0
phase prerequisites prerequisites
phase pages pages
phase format cargo fmt --all --check
phase clippy cargo clippy --workspace --all-targets --locked -- -D warnings
phase build build
phase tests tests
phase drill drill
phase "grants drill" drill grants
phase demo demo

printf '\n'
printf '%s\n' "${times[@]}" "$(printf '%-28s %4d s' total $SECONDS)"
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
