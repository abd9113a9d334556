# What `tarball` and `deb` share; both source it. It leaves in variables: target, program (the binary), pages_program, version, packages.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
root=$PWD

fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

host=$(rustc -vV | sed -n 's/^host: //p')
version=$(cargo pkgid --package campanile)
version=${version##*[#@]}
target_folder=$(cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
packages=${CAMPANILE_PACKAGES:-$target_folder/packages}
mkdir -p "$packages"
packages=$(cd "$packages" && pwd)

# The time of everything that is packaged, so that the same sources make the same package.
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
  SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) || fail "set SOURCE_DATE_EPOCH: there is no commit to take the time from"
fi
export SOURCE_DATE_EPOCH

# Packages of one machine's Rust must run on others, so a static program is better than one that needs this machine's libc.
default_target() {
  local musl=${host%%-*}-unknown-linux-musl
  case $host in
    *-linux-*) [ -d "$(rustc --print sysroot)/lib/rustlib/$musl" ] && [ -z "${CAMPANILE_PROGRAM:-}" ] && host=$musl ;;
  esac
  printf '%s\n' "$host"
}

# The program for a target, with paths in it that do not depend on this machine.
build() {
  RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$root=campanile --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo" \
    cargo build --release --locked --bin campanile --target "$1" >&2 || fail "the program for $1 was not built"
  printf '%s\n' "$target_folder/$1/release/campanile"
}

# Whether this machine runs programs of the target: another libc is no obstacle to a static program, another processor is.
runs_here() {
  case $host in
    "$target") true ;;
    *-linux-*) [ "$target" = "${host%%-*}-unknown-linux-musl" ] ;;
    *) false ;;
  esac
}

# Sets the variables. CAMPANILE_PROGRAM is a program that is built already, CAMPANILE_PAGES_PROGRAM one that runs here and
# writes completions and pages.
prepare() {
  target=${1:-$(default_target)}
  program=${CAMPANILE_PROGRAM:-}
  [ -n "$program" ] || program=$(build "$target")
  [ -f "$program" ] || fail "$program does not exist"
  pages_program=${CAMPANILE_PAGES_PROGRAM:-}
  if [ -z "$pages_program" ]; then
    if runs_here; then pages_program=$program; else pages_program=$(build "$host"); fi
  fi
}

# Writes completions and manual pages into the folders `completions` and `man` of a folder.
write_pages() {
  local completions=$1/completions
  mkdir -p "$completions" "$1/man"
  "$pages_program" completions bash >"$completions/campanile.bash"
  "$pages_program" completions elvish >"$completions/campanile.elv"
  "$pages_program" completions fish >"$completions/campanile.fish"
  "$pages_program" completions powershell >"$completions/_campanile.ps1"
  "$pages_program" completions zsh >"$completions/_campanile"
  "$pages_program" man --dir "$1/man"
}

# Writes the sums of all packages. The files are named without folders, so that `sha256sum --check` finds them where they are downloaded.
write_sums() (
  cd "$packages"
  shopt -s nullglob
  sha256sum -- *.tar.gz *.deb >SHA256SUMS
)
