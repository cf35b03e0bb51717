//! Notices that nobody reads the output any more, before something is printed.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;

/// Calls `end` when the output is no longer read, or when the program that started this one has closed the pipe that is its input.
/// Otherwise this would be noticed only with the next denied flow, which may never come.
pub(super) fn watch(end: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    let gone = PollFlags::POLLERR | PollFlags::POLLHUP;
    let is_gone = move |end: &PollFd<'_>| end.revents().is_some_and(|events| events.intersects(gone));
    std::thread::Builder::new().spawn(move || {
        let (output, input) = (std::io::stdout(), std::io::stdin());
        let mut ends = vec![PollFd::new(output.as_fd(), PollFlags::empty())];
        let mut first = [PollFd::new(input.as_fd(), PollFlags::empty())];
        // An input that was closed from the start means nothing.
        if poll(&mut first, PollTimeout::ZERO).is_ok() && !is_gone(&first[0]) {
            ends.push(PollFd::new(input.as_fd(), PollFlags::empty()));
        }
        while !ends.iter().any(is_gone) {
            match poll(&mut ends, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                // If the descriptors cannot be watched, the end is noticed with the next flow.
                Err(_) => return,
            }
        }
        end();
    })?;
    Ok(())
}
