#!/bin/sh
# Installs the package into an empty directory by Composer, with three programs: install.sh DIRECTORY
set -eu
cd "$(dirname "$0")"
to=$1

absent() { echo "$1" >&2; exit 77; }
for program in php composer cgi-fcgi; do
    command -v "$program" >/dev/null || absent "$program isn't installed"
done
fpm=$(ls /usr/sbin/php-fpm* 2>/dev/null | head -1)
[ -n "$fpm" ] || absent "php-fpm isn't installed"
mkdir "$to/packages"
cp dist/*.zip "$to/packages"
cat >"$to/composer.json" <<EOF
{
    "repositories": [{"type": "artifact", "url": "packages"}, {"packagist.org": false}],
    "require": {"audit-logger/audit-logger": "0.1.0"}
}
EOF
COMPOSER_HOME=$to/home COMPOSER_ALLOW_SUPERUSER=1 COMPOSER_DISABLE_NETWORK=1 \
    composer install --quiet --no-interaction --working-dir="$to" >&2
cp examples/chat.php tests/conformance.php tests/check.php tests/fpm.php "$to"
for program in chat conformance check; do
    cat >"$to/$program" <<EOF
#!/bin/sh
PHP_FPM=$fpm exec php "\$(dirname "\$0")/$program.php" "\$@"
EOF
    chmod +x "$to/$program"
done
