#!/usr/bin/env bash
# Everything killed at random moments under load, owners frozen until another took over and then woken; after each
# round every equation is checked and a table printed.
#
#   tests/drill.sh [ROUNDS] [PERSONS] [SEED]          connectors, gateways, vault, adapter; registers and cases
#                                                     default: 3 rounds, 20,000 persons, seed 1
#   tests/drill.sh grants [ROUNDS] [PERSONS] [SEED]   consent service, gateways, vault, adapter, PostgreSQL and its
#                                                     connections; consents given and revoked all the time
#                                                     default: 3 rounds, 200 persons, seed 1
#
# The work is in tests/e2e (mz-drill). Needs what tests/run.sh needs; uses and keeps the tests' stack. The grants
# drill kills that stack's PostgreSQL: nothing else may use it meanwhile.
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/prerequisites.sh
need_packages
need_rust
cargo build --quiet --locked -p mianzheng -p mz-e2e --bin mianzheng --bin mz-drill
target=${CARGO_TARGET_DIR:-target}
export MIANZHENG_BIN="${MIANZHENG_BIN:-$target/debug/mianzheng}"
mode=deliveries persons=20000
if [ "${1:-}" = grants ]; then
  mode=grants persons=200
  shift
fi
exec "$target/debug/mz-drill" "$mode" --rounds "${1:-3}" --persons "${2:-$persons}" --seed "${3:-1}"
