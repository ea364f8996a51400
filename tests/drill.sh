#!/usr/bin/env bash
# Connectors, gateways, vault and adapter killed at random moments under load, a gateway frozen until another
# took over and then woken; after each round every equation is checked and a table printed.
#
#   tests/drill.sh [ROUNDS] [PERSONS] [SEED]     default: 3 rounds, 20,000 persons, seed 1
#
# The work is in tests/e2e (mz-drill). Needs what tests/run.sh needs; uses and keeps the tests' stack.
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/prerequisites.sh
need_packages
need_rust
cargo build --quiet --locked -p mianzheng -p mz-e2e --bin mianzheng --bin mz-drill
target=${CARGO_TARGET_DIR:-target}
export MIANZHENG_BIN="${MIANZHENG_BIN:-$target/debug/mianzheng}"
exec "$target/debug/mz-drill" --rounds "${1:-3}" --persons "${2:-20000}" --seed "${3:-1}"
