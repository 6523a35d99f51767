//! The heap of a program that is both a supervisor and all else: one that makes supervisors small, and one that makes
//! servers fast.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{CStr, c_char, c_int};
use std::sync::atomic::{AtomicBool, Ordering};

use mimalloc::MiMalloc;

/// Whether this process is a supervisor. Set before anything is allocated, and never again.
static IS_SUPERVISOR: AtomicBool = AtomicBool::new(false);

/// The global allocator: the C library's in supervisors, of which there is one for each pod and which give back what
/// they do not use (`malloc_trim`); mimalloc in all others, whose many threads allocate much of one size.
pub struct Heap;

// SAFETY: each call goes on to an allocator that keeps the promises of the trait. Which one never changes while the
// process allocates, so that memory goes back to where it came from.
unsafe impl GlobalAlloc for Heap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { if is_supervisor() { System.alloc(layout) } else { MiMalloc.alloc(layout) } }
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe {
            if is_supervisor() { System.dealloc(memory, layout) } else { MiMalloc.dealloc(memory, layout) }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { if is_supervisor() { System.alloc_zeroed(layout) } else { MiMalloc.alloc_zeroed(layout) } }
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe {
            if is_supervisor() {
                System.realloc(memory, layout, new_size)
            } else {
                MiMalloc.realloc(memory, layout, new_size)
            }
        }
    }
}

#[inline]
fn is_supervisor() -> bool {
    IS_SUPERVISOR.load(Ordering::Relaxed)
}

/// The loader calls it before `main`, with the arguments of the program (`elf/dl-init.c` and `csu/libc-start.c` of glibc):
/// they are the only way to know so early what this process is going to be.
// SAFETY: the section holds functions of this signature, and this one neither allocates nor needs a runtime.
#[unsafe(link_section = ".init_array")]
#[used]
static CHOOSE: extern "C" fn(c_int, *const *const c_char) = choose;

extern "C" fn choose(count: c_int, arguments: *const *const c_char) {
    if count < 2 {
        return;
    }
    // SAFETY: there are `count` arguments, each a text that ends with a zero and lives as long as the process.
    let word = unsafe { CStr::from_ptr(*arguments.add(1)) };
    if word.to_bytes() == b"supervisor" {
        IS_SUPERVISOR.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Allocates, grows and frees; the content stays.
    fn exercise() {
        let layout = Layout::from_size_align(100, 64).unwrap();
        // SAFETY: the layouts are those that the memory has at each moment.
        unsafe {
            let memory = Heap.alloc_zeroed(layout);
            assert!(!memory.is_null() && memory.addr().is_multiple_of(64));
            memory.add(99).write(7);
            let grown = Heap.realloc(memory, layout, 100_000);
            assert_eq!((grown.read(), grown.add(99).read()), (0, 7));
            Heap.dealloc(grown, Layout::from_size_align(100_000, 64).unwrap());
        }
    }

    #[test]
    fn the_first_argument_decides() {
        let name = |words: &[&CStr]| {
            let pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
            choose(words.len() as c_int, pointers.as_ptr());
            is_supervisor()
        };
        assert!(!name(&[]));
        assert!(!name(&[c"supervisor"]));
        assert!(!name(&[c"carrack", c"up", c"supervisor"]));
        exercise();
        assert!(name(&[c"carrack", c"supervisor"]));
        exercise();
    }
}
