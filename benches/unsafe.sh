#!/usr/bin/env bash
# The kernels' unsafe code under Miri (vectors of AVX2, and plain loops), the address sanitizer (as this machine runs it, with
# AVX-512 where that is) and valgrind (the same without AVX-512, which valgrind does not know).
#
# Needs the nightly toolchain with Miri and rust-src, and valgrind; a notice where one is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
export RAYON_NUM_THREADS=2 PROPTEST_CASES=4
if cargo +nightly miri --version >/dev/null 2>&1; then
  # Isolation off: the thread pool asks the system for its processors. Leaks ignored: it is never joined. Tree borrows: its
  # queues (crossbeam) do not follow the older model.
  export MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-ignore-leaks -Zmiri-tree-borrows"
  for features in "" "-C target-feature=+avx2,+fma"; do
    RUSTFLAGS=$features CARGO_TARGET_DIR=$target/miri cargo +nightly miri test --lib -- \
      kernels::blocks kernels::simd bias_relu_and_gate a_buffer_
  done
else
  echo "Miri is missing: rustup toolchain install nightly --component miri --component rust-src"
fi
if cargo +nightly --version >/dev/null 2>&1; then
  host=$(rustc -vV | sed -n 's/^host: //p')
  RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=$target/sanitized cargo +nightly test --target "$host" --lib -- kernels:: layers::
else
  echo "the address sanitizer is missing: rustup toolchain install nightly"
fi
if command -v valgrind >/dev/null; then
  tests=$(cargo test --lib --no-run --message-format=json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1)
  valgrind --error-exitcode=9 --errors-for-leak-kinds=none -q "$tests" kernels:: layers:: --test-threads=1
else
  echo "valgrind is missing: apt-get install valgrind"
fi
