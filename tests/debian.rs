//! The Debian packages: made by one command, sound by lintian's standards, and installed, used and
//! purged in a copy of this machine's Debian.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use support::server::{Server, completion, response};
use support::{Scratch, available, make, release, root, run, skip, target};

/// Where the packages are. `None`, and the test is skipped, where a tool is absent.
fn packages() -> Option<&'static Path> {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    if !["make", "dpkg-buildpackage", "dh"]
        .iter()
        .all(|tool| available(tool))
    {
        return None;
    }
    let made = MADE.get_or_init(|| {
        let packages = target().join("debian");
        let _ = std::fs::remove_dir_all(&packages);
        release();
        run(make().arg("deb"));
        packages
    });
    Some(made)
}

#[test]
fn lintian_has_nothing_to_say() {
    let Some(packages) = packages().filter(|_| available("lintian")) else {
        return;
    };
    let said = run(Command::new("lintian")
        .args(["--allow-root", "--fail-on=error,warning"])
        // It wants the number of a request to have the package in Debian.
        .arg("--suppress-tags=initial-upload-closes-no-bugs")
        .arg(packages.join("audit-logger.changes")));
    assert_eq!(said, "");
}

#[test]
fn the_changelog_has_the_version() {
    let changelog = std::fs::read_to_string(root().join("debian/changelog")).expect("it is there");
    let version = concat!("audit-logger (", env!("CARGO_PKG_VERSION"), "-");
    assert!(
        changelog.starts_with(version),
        "debian/changelog begins with another version"
    );
}

/// Runs `use.sh` where this machine's files are, and what is written to them is thrown away.
/// Ends with 77 where that can't be had.
const COPY: &str = r#"
mount -t tmpfs none "$1" || exit 77
mkdir "$1/changed" "$1/work" "$1/copy"
mount -t overlay -o "lowerdir=/,upperdir=$1/changed,workdir=$1/work" none "$1/copy" || exit 77
for place in proc dev; do mount --rbind "/$place" "$1/copy/$place"; done
cp -a "$2" "$1/copy/packages"
exec chroot "$1/copy" sh -eu /packages/use.sh
"#;

const USE: &str = r#"
export LC_ALL=C
cd /packages
ours() { find /etc /lib/ /usr /var -name '*audit?logger*' | sort; }
ours >before

for package in ./*.deb; do dpkg --contents "$package" | grep -q THIRD_PARTY; done
dpkg --install ./*.deb
cc chat.c -laudit_logger -o chat
./chat
cc chat.c -l:libaudit_logger.a -lm -o static
./static
audit-logger verify audit_logs

mkdir /etc/audit-logger
sed "s|^LOG=.*|LOG=$PWD/audit_logs|" maintain.conf >/etc/audit-logger/root.conf
. /etc/audit-logger/root.conf
eval "$(sed -n 's/^ExecStart=//p' /lib/systemd/system/audit-logger-maintain@.service)"
systemd-analyze verify --man=no audit-logger-maintain@root.service audit-logger-maintain@root.timer
rm -r /etc/audit-logger

dpkg --purge audit-logger libaudit-logger-dev libaudit-logger0.1
ours >after
diff before after
if ./chat 2>&1; then exit 1; fi
"#;

#[test]
fn the_packages_are_installed_used_and_purged() {
    let Some(packages) = packages() else { return };
    if !["unshare", "systemd-analyze"]
        .iter()
        .all(|tool| available(tool))
    {
        return;
    }
    let scratch = Scratch::new();
    let (mount, files) = (scratch.join("mount"), scratch.join("files"));
    std::fs::create_dir(&mount).expect("it can be made");
    run(Command::new("cp").arg("-r").arg(packages).arg(&files));
    for file in ["examples/chat.c", "debian/maintain.conf"] {
        let name = Path::new(file).file_name().expect("it has one");
        std::fs::copy(root().join(file), files.join(name)).expect("it can be copied");
    }
    std::fs::write(files.join("use.sh"), USE).expect("it can be written");

    let server = Server::always(response(200, &[], completion("because").as_bytes()));
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-euc", COPY, "sh"])
        .args([&mount, &files])
        .env_remove("LD_LIBRARY_PATH")
        .envs([
            ("AUDIT_BASE_URL", &*server.base_url()),
            ("OPENROUTER_API_KEY", "none"),
        ])
        .output()
        .expect("unshare starts");
    if output.status.code() == Some(77) || !is_root() {
        return skip("only root can mount a file system");
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}\n{wrong}");
    assert_eq!(
        printed.matches("answer: because\n").count(),
        2,
        "{printed}\n{wrong}"
    );
    assert!(
        printed.contains("libaudit_logger.so.0.1: cannot open"),
        "{printed}\n{wrong}"
    );
    let report = printed.lines().find(|line| line.starts_with('{'));
    assert!(
        report.is_some_and(|line| line.contains("\"compressed\"")),
        "{printed}\n{wrong}"
    );
}

fn is_root() -> bool {
    run(Command::new("id").arg("-u")).trim() == "0"
}
