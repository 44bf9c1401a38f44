//! Links pbft-core without the standard library.
#![no_std]

#[cfg(feature = "intruder")]
extern crate std;

use core::alloc::{GlobalAlloc, Layout};

pub use pbft_core::replica::Replica;

struct Nowhere;

// SAFETY: never allocates, which an allocator may do.
unsafe impl GlobalAlloc for Nowhere {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }
    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: Nowhere = Nowhere;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
