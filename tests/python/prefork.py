"""A pool of forked workers that share a logger made before, as preloading servers do it.

Arguments: the directory of the Python package, the log's directory, the base URL of a server that repeats the
prompt, how many calls. AUDIT_LOGGER_LIBRARY is the library.
"""
import faulthandler
import multiprocessing
import sys

package, log, base_url, calls = sys.argv[1:]
faulthandler.dump_traceback_later(60, exit=True)
sys.path.insert(0, package)
sys.dont_write_bytecode = True
import audit_logger

client = audit_logger.Client(output_path=log, base_url=base_url, api_key="sk-test")


def ask(number):
    prompt = f"call {number}"
    return client.chat(prompt, "user-1") == prompt


if __name__ == "__main__":
    assert ask("of the parent, before")
    with multiprocessing.get_context("fork").Pool(4) as pool:
        answers = pool.imap_unordered(ask, range(int(calls)), chunksize=5)
        assert all(ask(f"of the parent, {number}") for number in range(20))
        assert all(answers)
        pool.close()
        pool.join()
    client.close(5)
