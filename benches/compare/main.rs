//! The library beside what one would use instead, as ratios from interleaved runs.
//!
//!     cargo bench --bench compare
//!     cargo bench --bench compare -- --short
//!
//! The first takes about a minute, the second some ten seconds with fewer rounds and calls.
//!
//! Every contender is a program of its own (beside this file) that does its calls and prints its
//! own wall and CPU time. In each round each has its turn, so that what else the machine does
//! meets all of them; ratios are taken within a round, and the median of the rounds counts. What
//! a contender needs and this machine lacks is reported, and the contender left out. The Python
//! interpreter is AUDIT_TEST_PYTHON, else python3.

mod contender;
#[path = "../../tests/support/outer_cargo.rs"]
mod outer_cargo;
mod processor;
mod server;
mod table;
mod workload;

use std::error::Error;
use std::path::{Path, PathBuf};

use contender::{Contender, Job, Library, Tools};
use server::Server;
use table::{Table, Targets};
use workload::Workload;

/// How much is done.
struct Plan {
    rounds: usize,
    /// Divides the calls of each turn.
    divisor: u64,
}

const DEFAULT: Plan = Plan {
    rounds: 9,
    divisor: 1,
};
const SHORT: Plan = Plan {
    rounds: 3,
    divisor: 5,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` starts benchmarks too, without this argument.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("measures only when started by cargo bench");
        return Ok(());
    }
    let plan = match arguments.iter().any(|argument| argument == "--short") {
        true => SHORT,
        false => DEFAULT,
    };

    let room = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compare");
    let workload = Workload::write(&room.join("workload"))?;
    let library = Library::build()?;
    let tools = Tools::new(&library, &room);
    let mut targets = Targets::default();

    entries(&plan, &tools, &workload, &mut targets)?;
    calls(&plan, &tools, &workload, &mut targets)?;
    streams(&plan, &tools, &workload, &mut targets)?;
    memory(&plan, &tools, &workload, &mut targets)?;
    let size = std::fs::metadata(&library.path)?.len() as f64 / 1e6;
    targets.at_most("stripped .so, MB", 2.5, size);

    println!("{targets}");
    Ok(())
}

/// audit_logger_log.
fn entries(
    plan: &Plan,
    tools: &Tools<'_>,
    workload: &Workload,
    targets: &mut Targets,
) -> Result<(), Box<dyn Error>> {
    let host = tools.c("host", &[])?;
    let floor = tools.c("floor", &["libcrypto"])?;
    let cpp = tools.cpp(
        "cpp_logger",
        &["spdlog", "nlohmann_json", "uuid", "libcrypto"],
    )?;
    let many = 20_000 / plan.divisor;
    let log = |calls, threads: u64| {
        Job::new("log", calls)
            .entries(calls / 10 + calls * threads)
            .argument(threads)
    };
    // The floor writes lines of the length that the library's have here.
    let sample = Contender::of("", &host, log(10, 1)).turn(workload)?;
    let line_bytes = sample.log_bytes / sample.entries.max(1);

    let floor_log = |threads| log(many, threads).bare().argument(line_bytes);
    let mut contenders = [
        Contender::of("floor: SHA-256, one write", &floor, floor_log(1)),
        Contender::of("audit_logger_log", &host, log(many, 1)),
        Contender::of("  reply taken", &host, Job::new("reply", many)),
        Contender::of("C++ by hand", &cpp, Job::new("", many / 2).bare()),
        Contender::of("seed", &tools.python("seed.py"), Job::new("log", many / 10)),
        Contender::of("floor, 2 threads", &floor, floor_log(2)),
        Contender::of("audit_logger_log, 2 threads", &host, log(many, 2)),
    ];
    contender::interleave(plan.rounds, &mut contenders, workload)?;
    let [floor, ours, _, cpp, seed, floor_2, ours_2] = &contenders;

    println!(
        "\nOne entry: prompt of {} bytes, answer of {}, line of {line_bytes}; os durability\n",
        workload.prompt_bytes, workload.answer_bytes
    );
    println!("{}", Table::beside(floor, "floor", &contenders));

    targets.at_most("log, wall, x floor", 1.6, ours.wall().over(&floor.wall()));
    targets.at_most("log, CPU, x floor", 1.6, ours.cpu().over(&floor.cpu()));
    targets.at_least("log, rate, x C++", 3.0, cpp.wall().over(&ours.wall()));
    targets.at_least("log, rate, x seed", 20.0, seed.wall().over(&ours.wall()));
    targets.at_least(
        "log, rate, 2 threads x 1",
        1.6,
        ours.wall().over(&ours_2.wall()),
    );
    // Two processors of a virtual machine are seldom two, and the kernel locks the file.
    targets.for_comparison(
        "  the floor's, 2 threads x 1",
        floor.wall().over(&floor_2.wall()),
    );
    Ok(())
}

/// audit_chat, twice. Across the network a client sleeps until its answer wakes it, which costs
/// it most of its time here: so it is with the server on another processor. On the server's own
/// the client isn't woken from afar, and its own work is nearly all that is left.
fn calls(
    plan: &Plan,
    tools: &Tools<'_>,
    workload: &Workload,
    targets: &mut Targets,
) -> Result<(), Box<dyn Error>> {
    let processors = processor::allowed();
    let Some(&first) = processors.first() else {
        return Err("the processors of this process aren't known".into());
    };
    processor::keep_to(first);
    let server = Server::start("application/json", &workload.response)?;
    if let Some(&second) = processors.get(1) {
        processor::keep_to(second);
        calls_from("another CPU", plan, tools, workload, &server, targets)?;
        processor::keep_to(first);
    }
    calls_from("the same CPU", plan, tools, workload, &server, targets)
}

fn calls_from(
    place: &str,
    plan: &Plan,
    tools: &Tools<'_>,
    workload: &Workload,
    server: &Server,
    targets: &mut Targets,
) -> Result<(), Box<dyn Error>> {
    let many = 800 / plan.divisor;
    let chat = |calls| Job::new("chat", calls).calls_to(server);
    let mut contenders = [
        Contender::of(
            "libcurl alone",
            &tools.c("curl", &["libcurl"])?,
            chat(many).bare().no_log(),
        ),
        Contender::of("audit_chat", &tools.c("host", &[])?, chat(many)),
        Contender::of(
            "openai-python and seed",
            &tools.python("seed.py"),
            chat(many / 10),
        ),
    ];
    contender::interleave(plan.rounds, &mut contenders, workload)?;
    let [curl, ours, openai] = &contenders;

    println!(
        "One call: request of {} bytes, response of {}; the client alone, its server on {place}\n",
        workload.request_bytes,
        workload.response.len()
    );
    println!("{}", Table::beside(curl, "libcurl", &contenders));

    targets.at_most(
        &format!("chat, CPU, x libcurl; server on {place}"),
        1.5,
        ours.cpu().over(&curl.cpu()),
    );
    targets.at_least(
        &format!("chat, openai-python's CPU x ours; server on {place}"),
        30.0,
        openai.cpu().over(&ours.cpu()),
    );
    Ok(())
}

/// audit_chat with an answer of many chunks.
fn streams(
    plan: &Plan,
    tools: &Tools<'_>,
    workload: &Workload,
    targets: &mut Targets,
) -> Result<(), Box<dyn Error>> {
    let server = Server::start("text/event-stream", &workload.stream)?;
    let many = 100 / plan.divisor;
    let stream = |calls| Job::new("stream", calls).calls_to(&server);
    let mut contenders = [
        Contender::of("audit_chat", &tools.c("host", &[])?, stream(many)),
        Contender::of(
            "audit_queue, 16 at once",
            &tools.c("host", &[])?,
            Job::new("queue", many).calls_to(&server),
        ),
        Contender::of(
            "openai-python",
            &tools.python("seed.py"),
            // It costs a hundred times as much, and logs nothing.
            stream(10).entries(0),
        ),
    ];
    contender::interleave(plan.rounds, &mut contenders, workload)?;
    let [ours, queue, openai] = &contenders;
    println!("One streamed answer of {} chunks\n", workload::CHUNKS);
    println!("{}", Table::beside(ours, "audit_chat", &contenders));
    targets.at_least(
        "stream, openai-python's CPU x ours",
        80.0,
        openai.cpu().over(&ours.cpu()),
    );
    targets.at_most(
        "stream through a queue, CPU, x audit_chat",
        1.15,
        queue.cpu().over(&ours.cpu()),
    );
    Ok(())
}

/// What stays with the host.
fn memory(
    plan: &Plan,
    tools: &Tools<'_>,
    workload: &Workload,
    targets: &mut Targets,
) -> Result<(), Box<dyn Error>> {
    let server = Server::start("application/json", &workload.response)?;
    let (logs, chats) = (100_000 / plan.divisor, 20_000 / plan.divisor);
    let job = Job::new("memory", logs)
        .entries(logs + chats)
        .argument(server.url())
        .argument(chats);
    let turn = Contender::of("", &tools.c("host", &[])?, job).turn(workload)?;
    let megabytes = |key| turn.report(key).map(|kilobytes| kilobytes * 1024.0 / 1e6);
    let (early, late) = (megabytes("early_kb")?, megabytes("late_kb")?);
    targets.at_most(
        &format!("resident after {logs} entries, {chats} calls, MB"),
        12.0,
        late,
    );
    targets.at_most("  grown since a tenth of them, MB", 0.5, late - early);
    // One for the log, none for a call.
    targets.at_most("threads made", 1.0, turn.report("threads_made")?);
    Ok(())
}

/// A path that a compiler or an interpreter is given.
fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("benches/compare")
        .join(name)
}
