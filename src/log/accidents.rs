//! What lies in a log's directory that its loggers didn't put there, and what happens to it under their
//! hands: what of it they take, leave and say.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use super::directory::Directory;
use super::disk::simulated::{Faults, Machine};
use super::disk::{Access, Folder, How};
use super::expire::{MARKS, REMOVING};
use super::{Intent, Log, Sealing, Settings, Swept, maintain, mend, seal};
use crate::clock::Timestamp;
use crate::config::Maintenance;
use crate::error::{Error, Status};
use crate::format::entry::Line;
use crate::format::name::DayName;
use crate::format::record::RecordBody;
use crate::fuzzing::worked;
use crate::read::report::{Class, Report};
use crate::read::verify;

const DAY: Duration = Duration::from_secs(86_400);

thread_local! {
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

fn now() -> SystemTime {
    UNIX_EPOCH + NOW.get()
}

/// The first file of the day that the clock shows.
fn today() -> DayName {
    DayName::first(*Timestamp::of(now()).date())
}

fn line() -> Line {
    let id = Uuid::new_v4();
    let text = format!(
        "{{\"id\":\"{id}\",\"timestamp\":\"0000-00-00T00:00:00.000000Z\",\"event_type\":\"e\"}}\n"
    );
    Line::from_bytes(text.into_bytes()).unwrap()
}

fn sealing(guard_file: Option<PathBuf>) -> Sealing {
    Sealing {
        key: None,
        guard_file,
        origin: None,
        interval: Duration::ZERO,
        heartbeat: Duration::from_secs(900),
        hash_key_id: None,
    }
}

fn settings(path: &Path) -> Settings {
    Settings {
        path: path.to_owned(),
        access: Access::Owner,
        allow_network: false,
        to_disk: false,
        now,
        gap_entry: None,
        sealing: Some(sealing(None)),
        witnessing: None,
    }
}

/// A directory that goes with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        let path = std::env::temp_dir().join(format!("audit_logger-accidents-{}", Uuid::new_v4()));
        fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A log on a machine of its own, which nobody looks after but the test.
struct Simulated {
    machine: Machine,
    settings: Arc<Settings>,
}

impl Simulated {
    fn with(change: impl FnOnce(&mut Settings)) -> Simulated {
        NOW.set(200 * DAY + DAY / 2);
        let mut settings = settings("/simulated".as_ref());
        change(&mut settings);
        Simulated {
            machine: Machine::new(7),
            settings: Arc::new(settings),
        }
    }

    fn new() -> Simulated {
        Simulated::with(|_| {})
    }

    /// A process that opens the log, its number, and what it found.
    fn try_open(&self) -> Result<(Arc<Log>, usize, Swept), Error> {
        let (root, number) = self.machine.process();
        let directory =
            Directory::simulated(root).map_err(|error| Error::log(error.to_string()))?;
        let log = Log::of(Arc::new(directory), &self.settings, true)?;
        log.care.end();
        let swept = log.sweep_at_first()?;
        Ok((log, number, swept))
    }

    fn open(&self) -> (Arc<Log>, usize) {
        let (log, number, _) = self.try_open().unwrap();
        (log, number)
    }

    /// The directory, as another program sees it.
    fn folder(&self) -> Folder {
        self.machine.process().0
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        self.machine.files().remove(name).unwrap_or_default()
    }

    /// Appends to a file, as another program does.
    fn write(&self, name: &str, bytes: &[u8]) {
        let file = self.folder().open(name, How::Append { new: false });
        assert_eq!(file.unwrap().append(bytes).unwrap(), bytes.len());
    }

    fn set_faults(&self, change: impl FnOnce(&mut Faults)) {
        let mut faults = Faults::default();
        change(&mut faults);
        self.machine.set_faults(faults);
    }

    /// What verify says of what is there now.
    fn verified(&self) -> Report {
        let scratch = Scratch::new();
        for (path, bytes) in self.machine.files() {
            let path = scratch.join(&path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        verified(&scratch.0)
    }

    /// How often an entry stands in the log.
    fn count(&self, entry: &Line) -> usize {
        let id = entry.id().to_string();
        let files = self.machine.files().into_iter();
        let days = files.filter(|(path, _)| path.starts_with("audit_"));
        days.map(|(_, bytes)| String::from_utf8_lossy(&bytes).matches(&id).count())
            .sum()
    }
}

fn verified(path: &Path) -> Report {
    verify::verify(path, &verify::Options::default(), &mut |_, _| {}, &|| false).unwrap()
}

#[track_caller]
fn assert_intact(report: &Report) {
    assert!(report.intact(), "{:#?}", report.findings);
}

fn is_there(bytes: &[u8], piece: &[u8]) -> bool {
    memchr::memmem::find(bytes, piece).is_some()
}

// ---------------------------------------------------------------- other logs

#[test]
fn a_hanging_disk_under_one_log_delays_nothing_of_another() {
    let clock = |settings: &mut Settings| settings.now = SystemTime::now;
    let logs = [Simulated::with(clock), Simulated::with(clock)];
    let [(hanging, _), (other, _)] = [&logs[0], &logs[1]].map(|log| {
        let (root, number) = log.machine.process();
        let directory = Arc::new(Directory::simulated(root).unwrap());
        // With its thread.
        (Log::of(directory, &log.settings, true).unwrap(), number)
    });
    hanging.append(&mut line()).unwrap();
    logs[0].set_faults(|faults| faults.hangs = true);
    // The log's thread may have synced the first already.
    hanging.append(&mut line()).unwrap();
    let flushed = hanging.flush_within(Some(Duration::from_millis(20)));
    assert_eq!(flushed.unwrap_err().status, Status::Timeout);
    for _ in 0..3 {
        let began = Instant::now();
        other.append(&mut line()).unwrap();
        let patience = Duration::from_secs(60);
        assert_eq!(other.flush_within(Some(patience)), Ok(()));
        assert!(began.elapsed() < patience);
    }
    // Nor do those who write to it wait for it.
    hanging.append(&mut line()).unwrap();
    logs[0].set_faults(|_| {});
    assert_eq!(hanging.flush_within(None), Ok(()));
    assert_intact(&logs[0].verified());
    hanging.care.end();
    other.care.end();
}

#[test]
fn on_a_slow_disk_the_tree_s_lock_is_given_back_often_however_much_is_to_be_sealed() {
    let log = Simulated::new();
    let (opened, _) = log.open();
    // More than `recent` may hold, so tiles must be synced on the way, which takes two syncs for 256 lines.
    log.write(&today().file_name(), &b"1\n".repeat(520_000));
    let millisecond = Duration::from_millis(1);
    log.set_faults(|faults| faults.sync_takes = millisecond);
    let sealer = opened.sealer.get().unwrap();
    let wanted = seal::Wanted::default();
    let (mut most, mut more) = (0, true);
    while more {
        let before = log.machine.syncs();
        more = sealer.seal(now(), wanted).unwrap().unwrap().more;
        most = most.max(log.machine.syncs() - before);
    }
    log.set_faults(|_| {});
    assert!(most < 1000, "{most} syncs with the lock held");
    assert_intact(&log.verified());
}

// ---------------------------------------------------------------- days that were removed

/// A log of which a day was removed as its time was over, and that day.
fn pruned() -> (Simulated, DayName) {
    let log = Simulated::new();
    let day = today();
    let (first, number) = log.open();
    first.append(&mut line()).unwrap();
    first.flush().unwrap();
    let file = day.file_name();
    let sealer = first.sealer.get().unwrap();
    sealer
        .record(vec![RecordBody::Prune { file: file.clone() }], now())
        .unwrap();
    log.folder().remove(&file).unwrap();
    log.machine.kill(number);
    (log, day)
}

#[test]
fn a_file_under_a_removed_day_s_name_is_neither_sealed_nor_appended_to() {
    let (log, day) = pruned();
    let name = day.file_name();
    // A line of an entry, a torn one that a dead process may have left, and a tail.
    let forged = [line().as_bytes(), b"{\"id\":\"0f8f\n{\"id\":"].concat();
    log.write(&name, &forged);
    let (opened, _) = log.open();
    let mut entry = line();
    opened.append(&mut entry).unwrap();
    opened.flush().unwrap();
    for _ in 0..3 {
        NOW.set(NOW.get() + DAY);
        opened.look_after();
    }
    opened.close();
    assert_eq!(log.bytes(&name), forged);
    let further = log.bytes(&day.next().file_name());
    assert!(is_there(&further, entry.id().to_string().as_bytes()));
    assert!(!log.bytes(".state/torn").starts_with(b"{"));
    let report = log.verified();
    assert_eq!(report.unsealed_lines, 0);
    let found: Vec<_> = report
        .findings
        .iter()
        .map(|finding| &finding.file)
        .collect();
    assert_eq!(found, [&name], "{:#?}", report.findings);
}

#[test]
fn an_entry_in_a_file_under_a_removed_day_s_name_is_not_taken_for_written() {
    let log = Simulated::new();
    let day = today();
    let (dead, dying) = log.open();
    dead.append(&mut line()).unwrap();
    dead.flush().unwrap();
    let begun = line();
    let Intent(slot) = dead.begin(&begun, 1000).unwrap();
    // Its note leads to the file, too.
    dead.look_after();
    let file = day.file_name();
    let prune = RecordBody::Prune { file: file.clone() };
    let sealer = dead.sealer.get().unwrap();
    sealer.record(vec![prune], now()).unwrap();
    log.machine.kill(dying);
    log.folder().remove(&file).unwrap();
    let forged = [begun.as_bytes(), b"{\"id\":\"0f8f"].concat();
    log.write(&file, &forged);
    let (opened, _, swept) = log.try_open().unwrap();
    assert_eq!(swept.recovered, 1);
    opened.flush().unwrap();
    assert_eq!(log.bytes(&file), forged);
    assert_eq!(log.count(&begun), 2);
    assert_eq!(log.verified().unsealed_lines, 0);
    drop(slot);
}

/// A log whose first day was removed by a run, which another name still leads to.
fn removed_by_a_run(scratch: &Scratch) -> (PathBuf, String) {
    let path = scratch.join("log");
    let real = |now| Settings {
        now,
        ..settings(&path)
    };
    NOW.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap() - 20 * DAY);
    let name = today().file_name();
    let (log, _) = Log::open(&Arc::new(real(now)), None).unwrap();
    log.care.end();
    log.append(&mut line()).unwrap();
    log.flush().unwrap();
    log.close();
    drop(log);
    let report = run(&path);
    assert_eq!(report["marked"].as_array().unwrap().len(), 1, "{report}");
    ripen(&path);
    fs::hard_link(path.join(&name), scratch.join("kept")).unwrap();
    // With two names it isn't opened to write to it; to remove it, it is only read.
    let report = run(&path);
    assert_eq!(report["deleted"], serde_json::json!([name]), "{report}");
    (path, name)
}

/// Has the mark of the one day be two days old.
fn ripen(path: &Path) {
    let marks = path.join(".state").join(MARKS);
    let text = fs::read_to_string(&marks).unwrap();
    let (day, _) = text.split_once("\"since\"").unwrap();
    let since = Timestamp::of(SystemTime::now() - 2 * DAY);
    fs::write(&marks, format!("{day}\"since\":\"{since}\"}}\n")).unwrap();
}

fn run(path: &Path) -> serde_json::Value {
    let wanted = Maintenance {
        retention_days: Some(5),
        ..Maintenance::default()
    };
    let (report, _) = maintain(path, &wanted, &mut |_, _| {}, &|| false).unwrap();
    serde_json::from_slice(&report).unwrap()
}

#[test]
fn what_a_run_was_killed_before_it_removed_is_removed_by_the_next() {
    let scratch = Scratch::new();
    let (path, name) = removed_by_a_run(&scratch);
    fs::rename(scratch.join("kept"), path.join(&name)).unwrap();
    assert!(path.join(".state").join(REMOVING).exists());
    let report = run(&path);
    // Its mark is gone with what wasn't there. It is marked anew, and still known a day later.
    assert_eq!(report["skipped"], serde_json::json!([]), "{report}");
    ripen(&path);
    let report = run(&path);
    assert_eq!(report["deleted"], serde_json::json!([name]), "{report}");
    assert!(!path.join(&name).exists());
    assert_intact(&verified(&path));
}

#[test]
fn a_run_removes_no_file_that_somebody_put_under_a_removed_day_s_name() {
    let scratch = Scratch::new();
    let (path, name) = removed_by_a_run(&scratch);
    // The very bytes, in another file.
    fs::copy(scratch.join("kept"), path.join(&name)).unwrap();
    run(&path);
    ripen(&path);
    for _ in 0..2 {
        let report = run(&path);
        assert_eq!(report["deleted"], serde_json::json!([]), "{report}");
        assert_eq!(report["skipped"][0]["file"], name, "{report}");
        let reason = report["skipped"][0]["reason"].as_str().unwrap();
        assert!(reason.contains("is there again"), "{reason}");
    }
    assert!(path.join(&name).exists());
    // As long as it's what was sealed, a reader takes it for what such a run left.
    assert_intact(&verified(&path));
    fs::write(path.join(&name), line().as_bytes()).unwrap();
    assert_eq!(verified(&path).findings[0].class, Class::Returned);
}

// ---------------------------------------------------------------- who may only read

/// All files below a directory.
fn files_below(path: &Path, into: &mut Vec<PathBuf>) {
    for item in fs::read_dir(path).unwrap() {
        let path = item.unwrap().path();
        match path.is_dir() {
            true => files_below(&path, into),
            false => into.push(path),
        }
    }
}

#[test]
fn who_may_only_read_holds_no_lock_that_sealing_needs() {
    let scratch = Scratch::new();
    let path = scratch.join("log");
    let group = fs::metadata(&scratch.0).unwrap().gid();
    NOW.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
    let settings = Arc::new(Settings {
        access: Access::Group(group),
        ..settings(&path)
    });
    let (log, _) = Log::open(&settings, None).unwrap();
    log.care.end();
    log.append(&mut line()).unwrap();
    log.flush().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path.join(".state")) & 0o077, 0);
    let mut files = Vec::new();
    files_below(&path, &mut files);
    let mut locked = Vec::new();
    for file in files.iter().filter(|file| mode(file) & 0o040 != 0) {
        assert!(!file.starts_with(path.join(".state")), "{file:?}");
        assert!(!file.to_string_lossy().contains("lock"), "{file:?}");
        let open = fs::File::open(file).unwrap();
        open.lock().unwrap();
        locked.push(open);
    }
    assert!(locked.len() > 5, "a reader can open the days and the tree");
    for name in ["lock", "seal"] {
        assert_eq!(mode(&path.join(".state").join(name)) & 0o077, 0, "{name}");
    }
    let use_it = || {
        let began = Instant::now();
        log.append(&mut line()).unwrap();
        log.flush().unwrap();
        let (second, _) = Log::open(&settings, None).unwrap();
        second.care.end();
        second.append(&mut line()).unwrap();
        second.flush().unwrap();
        began.elapsed()
    };
    let beside_readers = use_it();
    drop(locked);
    // What the disk takes, it takes without them too.
    assert!(beside_readers < use_it() + Duration::from_secs(5));
    assert_eq!(verified(&path).unsealed_lines, 0);
}

// ---------------------------------------------------------------- foreign lines

/// What other programs write: no JSON, JSON over several lines, and a line that is longer than any entry.
fn foreign() -> Vec<Vec<u8>> {
    let long = format!("{{\"a\":\"{}\"}}\n", "x".repeat(3 << 20));
    vec![
        b"{\"id\": \"0f8fad5b-d9cb-469f-a165-70867728950e\", \"latency_ms\": NaN}\n".to_vec(),
        b"{\n  \"a\": 1,\n  \"b\": [\n    2\n  ]\n}\n".to_vec(),
        long.into_bytes(),
        b"plain text\n".to_vec(),
        b"{\"a\":Infinity}\r\n".to_vec(),
        b"\xff\xfe\n".to_vec(),
        "in two bytes\n"
            .encode_utf16()
            .flat_map(u16::to_be_bytes)
            .collect(),
        b"{\n".to_vec(),
    ]
}

#[test]
fn what_another_program_writes_is_sealed_as_it_stands_beside_what_the_dead_left() {
    const TORN: &[u8] = b"{\"id\":\"0f8fad5b-d9cb-469f-a165-70867728950e\",\"timest";
    let log = Simulated::new();
    let name = today().file_name();
    let (mut living, mut number) = log.open();
    let mut entries = Vec::new();
    for foreign in foreign() {
        let mut append = |living: &Log| {
            let mut entry = line();
            living.append(&mut entry).unwrap();
            entries.push(entry);
        };
        append(&living);
        living.look_after();
        log.write(&name, &foreign);
        append(&living);
        living.look_after();
        // Somebody died, and it stands directly before a line of that program's, and behind one.
        log.machine.kill(number);
        log.write(&name, &[&foreign, TORN].concat());
        (living, number) = log.open();
        append(&living);
        living.flush().unwrap();
        log.write(&name, &foreign);
        append(&living);
        living.flush().unwrap();
        let bytes = log.bytes(&name);
        let times = memchr::memmem::find_iter(&bytes, &foreign).count();
        assert!(
            times >= 3,
            "{:?}: {times}",
            String::from_utf8_lossy(&foreign[..9])
        );
        assert!(!is_there(&bytes, TORN));
        let report = log.verified();
        assert_intact(&report);
        assert_eq!(report.unsealed_lines, 0);
    }
    assert_eq!(log.verified().torn, foreign().len() as u64);
    for entry in entries {
        assert_eq!(log.count(&entry), 1);
    }
}

#[test]
fn what_the_dead_left_of_a_line_s_first_bytes_is_written_over() {
    for torn in [&b"{"[..], b"{\"id\":", b"{\"id\":\"0f", b"{\"id\":\"0f\0\0"] {
        for kill_in in 0..24 {
            let log = Simulated::new();
            let name = today().file_name();
            let (dead, number) = log.open();
            dead.append(&mut line()).unwrap();
            dead.flush().unwrap();
            log.machine.kill(number);
            log.write(&name, torn);
            // Whoever makes it whole is killed as well.
            log.set_faults(|faults| faults.kill_in = Some(kill_in));
            let _ = log.try_open();
            log.set_faults(|_| {});
            let (living, _) = log.open();
            living.append(&mut line()).unwrap();
            living.flush().unwrap();
            let bytes = log.bytes(&name);
            let text = String::from_utf8(bytes).unwrap();
            for line in text.lines() {
                let sound = line.trim().is_empty()
                    || serde_json::from_str::<serde_json::Value>(line).is_ok();
                assert!(sound, "{torn:?}, killed in {kill_in}: {line:?}");
            }
            let report = log.verified();
            assert_intact(&report);
            assert_eq!(report.unsealed_lines, 0, "{torn:?}, killed in {kill_in}");
        }
    }
}

#[test]
fn what_is_kept_of_torn_lines_is_bounded_and_goes_with_its_day() {
    const MOST: usize = 16 << 20;
    let log = Simulated::new();
    let name = today().file_name();
    let (living, _) = log.open();
    let begins = String::from_utf8(line().as_bytes().to_vec()).unwrap();
    let torn = begins.replace("e\"}\n", &format!("{}\n", "x".repeat(1900 << 10)));
    let mut longest = 0;
    for _ in 0..8 {
        log.write(&name, torn.as_bytes());
        living.append(&mut line()).unwrap();
        living.flush().unwrap();
        longest = longest.max(log.bytes(".state/torn").len());
    }
    assert!(
        longest > MOST / 4 && longest < MOST + (1 << 20),
        "{longest}"
    );
    NOW.set(NOW.get() + DAY);
    let next = today();
    log.write(&next.file_name(), b"{\"id\":\"0123\n");
    living.append(&mut line()).unwrap();
    living.flush().unwrap();
    let removed = DayName::parse(&name).unwrap();
    mend::forget(&living.directory, &[removed]).unwrap();
    let kept = log.bytes(".state/torn");
    assert!(!is_there(&kept, name.as_bytes()));
    assert!(is_there(&kept, next.file_name().as_bytes()));
}

// ---------------------------------------------------------------- the guard

/// Where the guards are.
const ELSEWHERE: &str = "/elsewhere";

/// How a log is sealed with a guard of that name.
fn guarded_by(guard: &str) -> Option<Sealing> {
    Some(sealing(Some(Path::new(ELSEWHERE).join(guard))))
}

/// A log with a guard of that name, sealed.
fn guarded(guard: &str) -> Simulated {
    let log = Simulated::with(|settings| settings.sealing = guarded_by(guard));
    let (first, number) = log.open();
    first.append(&mut line()).unwrap();
    first.flush().unwrap();
    log.machine.kill(number);
    log
}

impl Simulated {
    /// The same log, with another guard.
    fn with_guard(&self, guard: &str) -> Simulated {
        Simulated {
            machine: self.machine.clone(),
            settings: Arc::new(Settings {
                sealing: guarded_by(guard),
                witnessing: None,
                ..settings(&self.settings.path)
            }),
        }
    }

    /// The directory of the guards.
    fn elsewhere(&self) -> Folder {
        self.folder().elsewhere(ELSEWHERE.as_ref()).unwrap()
    }

    /// What a guard holds.
    fn guard(&self, name: &str) -> String {
        let bytes = self.elsewhere().read(name, 1 << 20).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// Goes the way out that the error names.
    fn forget_guard(&self) {
        let tree = self.folder().folder(".integrity", Access::Owner).unwrap();
        tree.remove("guarded").unwrap();
    }
}

#[test]
fn another_guard_an_empty_one_or_a_new_one_is_refused_with_the_way_out() {
    let others = guarded("guard").guard("guard");
    for what in ["another", "empty", "recreated"] {
        let log = guarded("guard");
        let elsewhere = log.elsewhere();
        let put = match what {
            "another" => elsewhere.replace("guard", others.as_bytes(), true),
            "empty" => elsewhere.replace("guard", b"", true),
            _ => elsewhere.remove("guard"),
        };
        put.unwrap();
        let refused = log.try_open().map(drop).unwrap_err();
        assert_eq!(refused.status, Status::Config, "{what}");
        let message = &refused.message;
        assert!(message.contains("guard_file"), "{what}: {message}");
        assert!(message.contains(".integrity/guarded"), "{what}: {message}");
        // Asked again, it's no other answer.
        assert!(log.try_open().is_err(), "{what}");
        log.forget_guard();
        let (opened, _) = log.open();
        opened.append(&mut line()).unwrap();
        opened.flush().unwrap();
        let report = log.verified();
        assert_intact(&report);
        assert_eq!((report.rollbacks, report.unsealed_lines), (0, 0), "{what}");
        assert!(log.try_open().is_ok(), "{what}");
    }
}

#[test]
fn the_unnamed_guard_of_version_1_is_taken_over_if_it_knows_the_log() {
    let log = guarded("guard");
    let tree = log.folder().folder(".integrity", Access::Owner).unwrap();
    tree.replace("guarded", b"", true).unwrap();
    // Version 1 gave guards no name.
    let text = log.guard("guard");
    let lines = text.split_inclusive('\n');
    let unnamed: String = lines.filter(|line| !line.starts_with("guard ")).collect();
    let elsewhere = log.elsewhere();
    elsewhere
        .replace("guard", unnamed.as_bytes(), true)
        .unwrap();
    let (opened, _) = log.open();
    opened.append(&mut line()).unwrap();
    opened.flush().unwrap();
    assert_eq!(log.verified().rollbacks, 0);
    assert!(log.guard("guard").contains("guard "));
    assert_ne!(log.bytes(".integrity/guarded"), b"");
    // One that doesn't know it isn't.
    tree.replace("guarded", b"", true).unwrap();
    let other = log.with_guard("other").try_open();
    assert_eq!(other.map(drop).unwrap_err().status, Status::Config);
}

#[test]
fn a_crash_between_guard_and_heads_followed_by_another_guard_is_no_rollback() {
    let mut between = 0;
    for kill_in in 0..100 {
        let log = guarded("guard");
        let (dying, _) = log.open();
        dying.append(&mut line()).unwrap();
        let (known, heads) = (log.guard("guard"), log.bytes(".integrity/heads"));
        log.set_faults(|faults| faults.kill_in = Some(kill_in));
        let flushed = dying.flush();
        log.set_faults(|_| {});
        let is_ahead = log.guard("guard").lines().count() > known.lines().count();
        between += u32::from(is_ahead && heads == log.bytes(".integrity/heads"));
        let other = log.with_guard("other");
        assert_eq!(
            other.try_open().map(drop).unwrap_err().status,
            Status::Config
        );
        other.forget_guard();
        let (opened, _) = other.open();
        opened.append(&mut line()).unwrap();
        opened.flush().unwrap();
        let report = other.verified();
        assert_intact(&report);
        assert_eq!(report.rollbacks, 0, "killed in {kill_in}: {flushed:?}");
    }
    assert!(between > 0, "no kill came between the two");
}

// ---------------------------------------------------------------- versions

#[test]
fn a_directory_of_version_1_is_taken_over_and_sealed_on() {
    let log = Simulated::new();
    let (first, number) = log.open();
    first.append(&mut line()).unwrap();
    first.flush().unwrap();
    log.machine.kill(number);
    let state = log.folder().folder(".state", Access::Owner).unwrap();
    state.replace("format", b"audit_logger 1\n", true).unwrap();
    state.remove("seal").unwrap();
    let tree = log.folder().folder(".integrity", Access::Owner).unwrap();
    tree.remove("recent").unwrap();
    tree.write("lock", b"").unwrap();
    tree.write("distrusted", b"0 audit_1970-01-01.jsonl\n")
        .unwrap();
    let (opened, _) = log.open();
    opened.append(&mut line()).unwrap();
    opened.flush().unwrap();
    assert_eq!(log.bytes(".state/format"), b"audit_logger 2\n");
    let report = log.verified();
    assert_intact(&report);
    assert_eq!((report.lines, report.unsealed_lines), (2, 0));
    assert_eq!((report.rollbacks, report.gaps), (0, 0));
}

#[test]
fn a_directory_of_a_later_version_is_refused_and_left_as_it_is() {
    let log = Simulated::new();
    drop(log.open());
    let state = log.folder().folder(".state", Access::Owner).unwrap();
    let later = format!("audit_logger 3{}\n", "x".repeat(5000));
    state.replace("format", later.as_bytes(), true).unwrap();
    let before = log.machine.files();
    let refused = log.try_open().map(drop).unwrap_err();
    assert_eq!(refused.status, Status::Log);
    assert!(
        refused.message.contains("audit_logger 3"),
        "{}",
        refused.message
    );
    assert!(refused.message.len() < 500);
    assert_eq!(log.machine.files(), before);
}

// ---------------------------------------------------------------- what a flush says

#[test]
fn a_flush_that_says_ok_has_sealed_what_waited_and_what_was_recovered() {
    let log = Simulated::new();
    let (dead, number) = log.open();
    dead.append(&mut line()).unwrap();
    let begun = line();
    let _intent = dead.begin(&begun, 1000).unwrap();
    log.machine.kill(number);
    let (living, _, swept) = log.try_open().unwrap();
    assert_eq!(swept.recovered, 1);
    let intent = living.begin(&line(), 1000).unwrap();
    log.set_faults(|faults| faults.full = true);
    let mut waits = line();
    // The file's last page may take it.
    let waited = living.finish(intent, &mut waits).is_err();
    log.set_faults(|_| {});
    living.flush().unwrap();
    assert_eq!((log.count(&begun), log.count(&waits)), (1, 1));
    let report = log.verified();
    assert_intact(&report);
    assert_eq!(report.unsealed_lines, 0, "waited: {waited}");
}

#[test]
fn a_flush_says_no_while_a_torn_line_before_its_entries_cant_be_written_over() {
    let log = Simulated::new();
    let name = today().file_name();
    let (living, _) = log.open();
    log.write(&name, b"{\"id\":\"0f8f");
    living.append(&mut line()).unwrap();
    // What is kept of it finds no room.
    log.set_faults(|faults| faults.full = true);
    assert_eq!(living.flush().unwrap_err().status, Status::Log);
    log.set_faults(|_| {});
    living.flush().unwrap();
    let report = log.verified();
    assert_intact(&report);
    assert_eq!(report.unsealed_lines, 0);
}

#[test]
fn a_tile_that_was_removed_isnt_replaced_by_an_empty_one_and_the_log_goes_on() {
    let tiles = |log: &Simulated| -> BTreeMap<String, Vec<u8>> {
        let files = log.machine.files().into_iter();
        files
            .filter(|(path, _)| path.starts_with(".integrity/tile/"))
            .collect()
    };
    let log = Simulated::new();
    let (first, number) = log.open();
    for _ in 0..300 {
        first.append(&mut line()).unwrap();
    }
    first.flush().unwrap();
    let names: Vec<String> = tiles(&log).into_keys().collect();
    for name in names.iter().filter(|name| !name.contains(".p/")) {
        let copy = Simulated::new();
        for (path, bytes) in log.machine.files() {
            let mut folder = copy.folder();
            let (above, file) = path.rsplit_once('/').unwrap_or(("", &path));
            for part in above.split('/').filter(|part| !part.is_empty()) {
                folder = folder.folder(part, Access::Owner).unwrap();
            }
            folder.write(file, &bytes).unwrap();
        }
        let (living, _) = copy.open();
        let (above, file) = name.rsplit_once('/').unwrap();
        let mut folder = copy.folder();
        for part in above.split('/') {
            folder = folder.folder(part, Access::Owner).unwrap();
        }
        folder.remove(file).unwrap();
        // A process that knows the tree, and one that is to learn it.
        let (other, _) = copy.open();
        for log in [&living, &other] {
            let mut entry = line();
            log.append(&mut entry).unwrap();
            let _ = log.flush();
            log.look_after();
            assert_eq!(copy.count(&entry), 1, "{name}");
        }
        let left = tiles(&copy).remove(name);
        // Left away, or made again from what is kept beside it, and gone on with.
        let whole = left.is_none_or(|bytes| bytes.starts_with(&log.bytes(name)));
        assert!(whole, "{name}");
        let said = [living.warnings(), other.warnings()].concat().join("\n");
        let error = |log: &Log| log.lock().last_error.clone().map(|(_, error)| error);
        let said = [Some(said), error(&living), error(&other)];
        let said: String = said.into_iter().flatten().collect();
        assert!(
            copy.verified().intact() || said.contains(".integrity"),
            "{name}: {said}"
        );
    }
    log.machine.kill(number);
}

#[test]
fn days_that_were_renamed_are_gone_on_with_in_new_files_and_nothing_is_lost() {
    let log = Simulated::new();
    let name = today().file_name();
    let (living, _) = log.open();
    let mut entries: Vec<Line> = (0..5).map(|_| line()).collect();
    let (sealed, rest) = entries.split_at_mut(2);
    for entry in sealed {
        living.append(entry).unwrap();
    }
    living.flush().unwrap();
    rest[0].stamp(&living.now());
    living.append(&mut rest[0]).unwrap();
    log.folder().rename(&name, &format!("{name}.1")).unwrap();
    for entry in &mut rest[1..] {
        NOW.set(NOW.get() + Duration::from_secs(1));
        living.append(entry).unwrap();
        living.flush().unwrap();
    }
    for entry in &entries {
        assert_eq!(log.count(entry), 1);
    }
    let report = log.verified();
    assert_eq!(report.unsealed_lines, 0);
    assert_eq!(report.gaps, 1);
    assert!(!report.intact());
    let found = report.findings.iter();
    let found: Vec<_> = found.map(|found| (found.class, &found.file[..])).collect();
    assert_eq!(found, [(Class::Deleted, &name[..])]);
}

#[test]
fn what_is_rescued_from_a_deleted_file_is_on_the_disk_where_it_must_be() {
    for to_disk in [true, false] {
        let log = Simulated::with(|settings| settings.to_disk = to_disk);
        let (living, _) = log.open();
        let mut entry = line();
        living.append(&mut entry).unwrap();
        living.flush().unwrap();
        log.folder().remove(&today().file_name()).unwrap();
        log.folder().sync().unwrap();
        NOW.set(NOW.get() + Duration::from_secs(1));
        living.look_after();
        assert_eq!(log.count(&entry), 1, "{to_disk}");
        log.machine.cut_power();
        if to_disk {
            assert_eq!(log.count(&entry), 1);
        }
    }
}

#[test]
fn a_note_or_a_slot_that_no_process_made_leads_nowhere() {
    let scratch = Scratch::new();
    let path = scratch.join("log");
    NOW.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
    drop(Log::open(&Arc::new(settings(&path)), None).unwrap());
    let mut journal = vec![0; 4096];
    journal[..23].copy_from_slice(b"audit_logger journal 1\n");
    for size in [0_u32, 16, 17, 4096, 48 << 10, 1 << 30, 1 << 31, u32::MAX] {
        let mut bytes = journal.clone();
        bytes.extend_from_slice(b"slot");
        bytes.extend_from_slice(&size.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        // A record of an intent that is as long as it can say.
        bytes.extend_from_slice(&[0; 16]);
        bytes.extend_from_slice(&2_u32.to_le_bytes());
        bytes.extend_from_slice(&(size / 3).to_le_bytes());
        let name = path.join(format!(".state/journal-{}", Uuid::new_v4()));
        let mut options = OpenOptions::new();
        let mut file = options.create_new(true).write(true).open(&name).unwrap();
        file.write_all(&bytes).unwrap();
        file.set_len(6 << 30).unwrap();
        let before = worked();
        let (log, swept) = Log::open(&Arc::new(settings(&path)), None).unwrap();
        assert_eq!(swept.recovered, 0, "{size}");
        assert!(worked() - before < Duration::from_secs(3), "{size}");
        assert!(!name.exists(), "{size}");
        log.care.end();
    }
}

#[test]
fn calls_that_take_more_than_memory_is_to_be_had_for_are_entered_piece_by_piece() {
    let scratch = Scratch::new();
    let path = scratch.join("log");
    NOW.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
    let settings = Arc::new(settings(&path));
    let (dead, _) = Log::open(&settings, None).unwrap();
    dead.care.end();
    let long = |entry: &Line| {
        let text = String::from_utf8(entry.as_bytes().to_vec()).unwrap();
        let text = text.replace("e\"}", &format!("{}\"}}", "x".repeat(1 << 20)));
        Line::from_bytes(text.into_bytes()).unwrap()
    };
    let mut calls = Vec::new();
    for number in 0..20 {
        let mut entry = line();
        let Intent(slot) = dead.begin(&entry, 3 << 19).unwrap();
        let mut slot = slot.unwrap();
        if number % 2 == 0 {
            entry = long(&entry);
            entry.stamp(&dead.now());
            slot.end(slot.place(), &entry).unwrap();
        }
        calls.push((slot, entry.id()));
    }
    while Arc::strong_count(&dead) > 1 {
        std::thread::yield_now();
    }
    let ids: Vec<Uuid> = calls.iter().map(|(_, id)| *id).collect();
    drop((dead, calls));
    let (living, swept) = Log::open(&settings, None).unwrap();
    living.care.end();
    assert_eq!(swept.recovered, 20);
    living.flush().unwrap();
    let text = fs::read_to_string(path.join(today().file_name())).unwrap();
    for id in ids {
        assert_eq!(text.matches(&id.to_string()).count(), 1);
    }
    assert_eq!(verified(&path).unsealed_lines, 0);
}
