//! File systems of a test's own, on images that are mounted, for which the test must be root.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::pace::until;
use super::{Scratch, available, run, skip};

/// Unmounted when it's dropped.
pub struct Image {
    image: PathBuf,
    pub place: PathBuf,
    mount: &'static [&'static str],
}

impl Image {
    /// `None`, and the test is skipped, where it can't be made or mounted.
    pub fn make(scratch: &Scratch, kind: &str) -> Option<Image> {
        let (mkfs, mount, size): (_, &[&str], _) = match kind {
            "ext4" => ("mkfs.ext4", &["mount", "-o", "loop"], 320),
            "fuse2fs" => ("mkfs.ext4", &["fuse2fs", "-o", "rw,fakeroot"], 64),
            "ntfs" => ("mkfs.ntfs", &["ntfs-3g"], 64),
            "xfs" => ("mkfs.xfs", &["mount", "-o", "loop"], 320),
            "btrfs" => ("mkfs.btrfs", &["mount", "-o", "loop"], 320),
            other => panic!("{other} isn't known here"),
        };
        if !available(mkfs) || !available(mount[0]) {
            return None;
        }
        let image = scratch.join("image");
        let file = std::fs::File::create(&image).expect("it can be made");
        file.set_len(size << 20).expect("it can grow");
        let mut make = Command::new(mkfs);
        make.args(["-q"])
            .args((mkfs == "mkfs.ntfs").then_some("-fF"));
        run(make.arg(&image));
        let place = scratch.join("disk");
        std::fs::create_dir(&place).expect("it can be made");
        let image = Image {
            image,
            place,
            mount,
        };
        if !image.mount() {
            skip("only root can mount a file system");
            return None;
        }
        Some(image)
    }

    pub fn mount(&self) -> bool {
        let [program, options @ ..] = self.mount else {
            return false;
        };
        let mut mount = Command::new(program);
        let mounted = mount.args(options).arg(&self.image).arg(&self.place);
        mounted.output().is_ok_and(|output| output.status.success())
    }

    /// What isn't on the disk by now is gone.
    pub fn cut(&self) {
        run(Command::new("xfs_io")
            .args(["-x", "-c", "shutdown"])
            .arg(&self.place));
    }

    /// Takes all the room there is, until `free`.
    pub fn fill(&self) {
        fill(&self.place.join("filler"));
    }

    pub fn free(&self) {
        let filler = self.place.join("filler");
        std::fs::remove_file(&filler).expect("it's there");
        // Some give the room back only when they have written that down.
        run(Command::new("sync").arg("-f").arg(&self.place));
        until("room", || std::fs::write(&filler, [b'x'; 1 << 16]).is_ok());
        std::fs::remove_file(filler).expect("it's there");
    }
}

/// An overlay, unmounted when it's dropped.
pub struct Overlay(pub PathBuf);

impl Overlay {
    /// The kernel's, on a file system that could be mounted.
    pub fn on(image: &Image) -> Overlay {
        let mut mount = Command::new("mount");
        mount.args(["-t", "overlay", "overlay"]);
        let (overlay, mounted) = Overlay::mount(&image.place, &mut mount);
        assert!(mounted, "an overlay can be mounted");
        overlay
    }

    /// By FUSE, on directories of the test's. `None`, and the test is skipped, where it can't be mounted.
    pub fn by_fuse(scratch: &Scratch) -> Option<Overlay> {
        if !available("fuse-overlayfs") {
            return None;
        }
        let mut mount = Command::new("fuse-overlayfs");
        let (overlay, mounted) = Overlay::mount(scratch.path(), &mut mount);
        if !mounted {
            skip("only root can mount a file system");
        }
        mounted.then_some(overlay)
    }

    fn mount(below: &Path, mount: &mut Command) -> (Overlay, bool) {
        let make = |name: &str| {
            let path = below.join(name);
            std::fs::create_dir(&path).expect("it can be made");
            path
        };
        let [lower, upper, work, place] = ["lower", "upper", "work", "overlay"].map(make);
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            upper.display(),
            work.display()
        );
        let output = mount.args(["-o", &options]).arg(&place).output();
        let mounted = output.is_ok_and(|output| output.status.success());
        (Overlay(place), mounted)
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.place).status();
    }
}

/// Makes a file grow until there's no room.
pub fn fill(filler: &Path) {
    let mut file = std::fs::File::create(filler).expect("it can be made");
    let mut end = 0;
    for shift in (12..=26).rev() {
        let size = 1 << shift;
        // SAFETY: no pointers are passed.
        while unsafe { libc::fallocate(file.as_raw_fd(), 0, end, size) } == 0 {
            end += size;
        }
    }
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(end as u64)).expect("it can");
    while file.write_all(&[b'x'; 4096]).is_ok() {}
    while file.write_all(b"x").is_ok() {}
}
