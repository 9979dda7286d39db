#!/bin/sh
# Installs the gem into an empty directory, with three programs: install.sh DIRECTORY
set -eu
cd "$(dirname "$0")"

command -v gem >/dev/null || { echo "ruby isn't installed" >&2; exit 77; }
ruby -e 'require "minitest"' 2>/dev/null || { echo "ruby has no minitest (Debian: ruby-minitest)" >&2; exit 77; }
GEM_HOME=$1/gems gem install --quiet --local --no-document dist/*.gem >&2
cp examples/chat.rb test/conformance.rb test/check.rb "$1"
for program in chat conformance check; do
    cat >"$1/$program" <<EOF
#!/bin/sh
here=\$(cd "\$(dirname "\$0")" && pwd)
GEM_HOME=\$here/gems exec ruby "\$here/$program.rb" "\$@"
EOF
    chmod +x "$1/$program"
done
