# Sourced by deploy/demo.sh and tests/run.sh: what building and running needs on a fresh Debian or Ubuntu.
# Installs it when run as root; otherwise says the one command that does, and leaves.
# shellcheck shell=bash

# need_packages [PACKAGE...]: the build's and the stack's packages, and those given, when their test fails.
need_packages() {
  local missing=()
  command -v cc >/dev/null && command -v c++ >/dev/null && command -v make >/dev/null || missing+=(build-essential)
  command -v pkg-config >/dev/null || missing+=(pkg-config)
  if ! { command -v pkg-config >/dev/null && pkg-config --exists openssl; }; then missing+=(libssl-dev); fi
  java_is_recent || missing+=(default-jdk-headless)
  command -v mvn >/dev/null || missing+=(maven)
  [ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
  local package
  for package in "$@"; do
    dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0

  local install="apt-get install -y --no-install-recommends ${missing[*]}"
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    printf 'Missing packages. Run this once, then start again (缺少软件包,请先执行):\n\n  sudo %s\n\n' "$install" >&2
    exit 1
  fi
  printf 'Installing %s …\n' "${missing[*]}"
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive sh -c 'apt-get update -qq && "$@" >/dev/null' -- $install
}

# Kafka 4 needs Java 17.
java_is_recent() {
  local version
  version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
  [ -n "$version" ] && [ "$version" -ge 17 ]
}

# Rust comes from rustup: Debian's own is too old.
need_rust() {
  [ -r "${CARGO_HOME:-$HOME/.cargo}/env" ] && . "${CARGO_HOME:-$HOME/.cargo}/env"
  local wanted found
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  found=$(rustc --version 2>/dev/null | cut -d' ' -f2 || true)
  if [ -z "$found" ] || [ "$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n 1)" != "$wanted" ]; then
    printf 'Rust %s or newer is needed, found %s. Install it from https://rustup.rs, then start again.\n' \
      "$wanted" "${found:-none}" >&2
    exit 1
  fi
}
