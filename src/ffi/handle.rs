//! Handles: numbers that look like pointers, never dereferenced on faith.
//!
//! A handle names a slot of a table and the slot's generation, under a tag for its type. Any
//! pointer that a host may pass (NULL, freed, of another type, on its stack, random) is looked up
//! and either is a live handle of the right type or is refused. The look-up uses atomics alone: a
//! lock could be held by another thread at a fork, for ever in the child, and a signal handler may
//! not wait for one.
//!
//! ```text
//! bit 63      56 55                       24 23               4 3   0
//!     type tag   generation                  slot               zero
//! ```
//!
//! The tag has its top bit set, which no address of a user's process has, so no real pointer is
//! ever taken for a handle, and using a handle as a pointer faults at once.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

const SLOT_SHIFT: u32 = 4;
const GENERATION_SHIFT: u32 = 24;
const TAG_SHIFT: u32 = 56;
const MAX_SLOT: u64 = (1 << (GENERATION_SHIFT - SLOT_SHIFT)) - 1;

/// Chunk `k` holds `FIRST_CHUNK << k` slots, so that slots never move once they are made.
const FIRST_CHUNK: u64 = 64;
const CHUNKS: usize = 14;

/// A slot's state: its generation, whether its handle is valid, and how many use it (the table
/// itself counts as one while the handle is valid).
const GENERATION_OF_STATE: u32 = 32;
const VALID: u64 = 1 << 31;
const USERS: u64 = VALID - 1;

struct Slot<T> {
    state: AtomicU64,
    /// The next slot in the list of free ones, plus 1; 0 at its end.
    next: AtomicU32,
    value: UnsafeCell<MaybeUninit<T>>,
}

/// The handles of one type.
pub struct Table<T> {
    tag: u8,
    chunks: [AtomicPtr<Slot<T>>; CHUNKS],
    /// Slots that were ever used.
    used: AtomicU64,
    /// Top of the list of free slots, plus 1, under a counter of changes: without the counter a
    /// slot that was taken and put back meanwhile would pass for one that never moved.
    free: AtomicU64,
}

// SAFETY: slots are reached through atomics; a value is shared only as `&T` and dropped by
// whoever used it last.
unsafe impl<T: Send + Sync> Sync for Table<T> {}

impl<T: Send + Sync> Table<T> {
    /// A table for handles that carry `tag`, whose top bit must be set.
    pub const fn new(tag: u8) -> Table<T> {
        assert!(tag & 0x80 != 0);
        Table {
            tag,
            chunks: [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS],
            used: AtomicU64::new(0),
            free: AtomicU64::new(0),
        }
    }

    /// A handle for `value`, or `None` when a million are in use.
    pub fn insert<H>(&self, value: T) -> Option<*mut H> {
        let index = self.take_free().or_else(|| self.take_unused())?;
        let slot = self.slot(index);
        // SAFETY: a slot taken from the free list, or never used, is this thread's alone, and
        // holds no value.
        unsafe { (*slot.value.get()).write(value) };
        let generation = slot.state.load(Ordering::Relaxed) >> GENERATION_OF_STATE;
        slot.state.store(
            generation << GENERATION_OF_STATE | VALID | 1,
            Ordering::Release,
        );
        Some(self.handle(generation, index))
    }

    /// The value of a handle, held for as long as the result lives.
    pub fn get<H>(&self, handle: *const H) -> Option<Held<'_, T>> {
        let (slot, generation) = self.find(handle)?;
        let user = |state: u64| is_valid(state, generation).then_some(state + 1);
        slot.state
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, user)
            .ok()?;
        Some(Held {
            table: self,
            slot,
            index: index_of(handle.addr() as u64),
            not_send: PhantomData,
        })
    }

    /// Makes a handle invalid; its value is dropped by the last one who holds it. False if it
    /// wasn't valid.
    pub fn remove<H>(&self, handle: *const H) -> bool {
        let Some((slot, generation)) = self.find(handle) else {
            return false;
        };
        let invalid = |state: u64| is_valid(state, generation).then_some(state & !VALID);
        let removed = slot
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, invalid)
            .is_ok();
        if removed {
            self.release(slot, index_of(handle.addr() as u64));
        }
        removed
    }

    /// Every value whose handle is valid, each held while it's looked at.
    pub fn each(&self, mut look: impl FnMut(&T)) {
        for index in 0..self.used.load(Ordering::Acquire).min(MAX_SLOT) {
            let Some(slot) = self.made_slot(index) else {
                continue;
            };
            let generation = slot.state.load(Ordering::Relaxed) >> GENERATION_OF_STATE;
            if let Some(held) = self.get(self.handle::<T>(generation, index)) {
                look(&held);
            }
        }
    }

    fn handle<H>(&self, generation: u64, index: u64) -> *mut H {
        let handle =
            u64::from(self.tag) << TAG_SHIFT | generation << GENERATION_SHIFT | index << SLOT_SHIFT;
        ptr::without_provenance_mut(usize::try_from(handle).unwrap_or_default())
    }

    fn find<H>(&self, handle: *const H) -> Option<(&Slot<T>, u64)> {
        let handle = handle.addr() as u64;
        let index = index_of(handle);
        let ours = handle >> TAG_SHIFT == u64::from(self.tag)
            && handle & ((1 << SLOT_SHIFT) - 1) == 0
            && index < self.used.load(Ordering::Acquire).min(MAX_SLOT);
        let generation = handle >> GENERATION_SHIFT & u64::from(u32::MAX);
        // A slot is counted as used just before its chunk is made.
        ours.then(|| self.made_slot(index))
            .flatten()
            .map(|slot| (slot, generation))
    }

    fn release(&self, slot: &Slot<T>, index: u64) {
        let before = slot.state.fetch_sub(1, Ordering::AcqRel);
        if before & (VALID | USERS) != 1 {
            return;
        }
        // SAFETY: the handle is invalid and this was the last user, so the slot is this
        // thread's alone.
        let value = unsafe { &mut *slot.value.get() };
        // SAFETY: it holds the value that `insert` wrote.
        unsafe { value.assume_init_drop() };
        let generation = ((before >> GENERATION_OF_STATE) + 1) & u64::from(u32::MAX);
        slot.state
            .store(generation << GENERATION_OF_STATE, Ordering::Release);
        self.put_free(slot, index);
    }

    fn put_free(&self, slot: &Slot<T>, index: u64) {
        let push = |top: u64| {
            slot.next.store(top as u32, Ordering::Relaxed);
            Some(((top >> 32) + 1) << 32 | (index + 1))
        };
        // `push` never refuses.
        let _ = self
            .free
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, push);
    }

    fn take_free(&self) -> Option<u64> {
        let pop = |top: u64| {
            let index = (top & u64::from(u32::MAX)).checked_sub(1)?;
            let next = self.slot(index).next.load(Ordering::Relaxed);
            Some(((top >> 32) + 1) << 32 | u64::from(next))
        };
        let top = self
            .free
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, pop)
            .ok()?;
        Some((top & u64::from(u32::MAX)) - 1)
    }

    fn take_unused(&self) -> Option<u64> {
        let more = |used: u64| (used < MAX_SLOT - FIRST_CHUNK).then_some(used + 1);
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, more)
            .ok()
    }

    fn made_slot(&self, index: u64) -> Option<&Slot<T>> {
        let (chunk, offset) = place(index);
        let slots = self.chunks[chunk].load(Ordering::Acquire);
        if slots.is_null() {
            return None;
        }
        // SAFETY: `place` keeps the offset within the chunk.
        let slot = unsafe { slots.add(offset) };
        // SAFETY: chunks are made whole and never freed.
        Some(unsafe { &*slot })
    }

    fn slot(&self, index: u64) -> &Slot<T> {
        loop {
            if let Some(slot) = self.made_slot(index) {
                return slot;
            }
            let (chunk, _) = place(index);
            let fresh: Box<[Slot<T>]> = (0..FIRST_CHUNK << chunk)
                .map(|_| Slot {
                    // From generation 1 on, so that no handle is mostly zeros.
                    state: AtomicU64::new(1 << GENERATION_OF_STATE),
                    next: AtomicU32::new(0),
                    value: UnsafeCell::new(MaybeUninit::uninit()),
                })
                .collect();
            let length = fresh.len();
            let made = Box::into_raw(fresh).cast::<Slot<T>>();
            let (empty, order) = (ptr::null_mut(), Ordering::AcqRel);
            if self.chunks[chunk]
                .compare_exchange(empty, made, order, Ordering::Acquire)
                .is_err()
            {
                // SAFETY: made above, with this length, and never shared.
                drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(made, length)) });
            }
        }
    }
}

fn index_of(handle: u64) -> u64 {
    handle >> SLOT_SHIFT & MAX_SLOT
}

fn is_valid(state: u64, generation: u64) -> bool {
    state & VALID != 0 && state >> GENERATION_OF_STATE == generation
}

/// The chunk of a slot, and its place there.
fn place(index: u64) -> (usize, usize) {
    let chunk = (index / FIRST_CHUNK + 1).ilog2();
    let offset = index - FIRST_CHUNK * ((1 << chunk) - 1);
    (chunk as usize, offset as usize)
}

/// A value that stays alive while this does, even if its handle is freed meanwhile.
pub struct Held<'a, T: Send + Sync> {
    table: &'a Table<T>,
    slot: &'a Slot<T>,
    index: u64,
    not_send: PhantomData<*const ()>,
}

impl<T: Send + Sync> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this counts as a user of the slot, so its value can't be dropped, and while it
        // has users it's only shared.
        let value = unsafe { &*self.slot.value.get() };
        // SAFETY: a slot with users holds the value that `insert` wrote.
        unsafe { value.assume_init_ref() }
    }
}

impl<T: Send + Sync> Drop for Held<'_, T> {
    fn drop(&mut self) {
        self.table.release(self.slot, self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    struct Opaque;

    #[test]
    fn a_handle_lives_until_it_is_removed_and_never_again() {
        let table = Table::new(0xa1);
        let mut stale: Vec<*mut Opaque> = Vec::new();
        for round in 0..1000 {
            let handle = table.insert(round).unwrap();
            assert!(
                stale
                    .iter()
                    .all(|old| table.get(*old).is_none() && !table.remove(*old))
            );
            assert_eq!(*table.get(handle).unwrap(), round);
            assert!(table.remove(handle));
            stale.push(handle);
        }
        assert_eq!(
            table.used.load(Ordering::Relaxed),
            1,
            "the slot wasn't used again"
        );
    }

    #[test]
    fn many_handles_live_side_by_side() {
        let table = Table::new(0xa1);
        let handles: Vec<*mut Opaque> = (0..10_000).map(|n| table.insert(n).unwrap()).collect();
        for (n, handle) in handles.iter().enumerate() {
            assert_eq!(*table.get(*handle).unwrap(), n);
        }
        assert!(handles.iter().all(|handle| table.remove(*handle)));
        assert!(handles.iter().all(|handle| table.get(*handle).is_none()));
    }

    #[test]
    fn every_slot_number_has_a_place_of_its_own() {
        let mut expected = (0, 0);
        for index in 0..MAX_SLOT - FIRST_CHUNK {
            if expected.1 == (FIRST_CHUNK << expected.0) as usize {
                expected = (expected.0 + 1, 0);
            }
            assert_eq!(place(index), expected);
            expected.1 += 1;
        }
        assert!(expected.0 < CHUNKS);
    }

    #[test]
    fn no_foreign_value_is_taken_for_a_handle() {
        let table = Table::new(0xa1);
        let other: Table<i32> = Table::new(0xa2);
        let handle: *mut Opaque = table.insert(1).unwrap();
        assert!(other.get(handle).is_none());
        assert!(table.get(ptr::null::<Opaque>()).is_none());
        assert!(table.get(&raw const handle).is_none());
        for bit in 0..64 {
            let flipped: *mut Opaque = ptr::without_provenance_mut(handle.addr() ^ 1 << bit);
            assert!(table.get(flipped).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn a_value_is_dropped_once_by_the_last_who_holds_it() {
        struct Counted(Arc<AtomicUsize>);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let table = Arc::new(Table::new(0xa1));
        let drops = Arc::new(AtomicUsize::new(0));
        const ROUNDS: usize = 2000;
        for _ in 0..ROUNDS {
            let handle: *mut Opaque = table.insert(Counted(Arc::clone(&drops))).unwrap();
            let address = handle.addr();
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        let handle: *mut Opaque = ptr::without_provenance_mut(address);
                        let held = table.get(handle);
                        let removed = table.remove(handle);
                        drop(held);
                        removed
                    });
                }
            });
            assert!(table.get(handle).is_none());
        }
        assert_eq!(drops.load(Ordering::Relaxed), ROUNDS);
    }
}
