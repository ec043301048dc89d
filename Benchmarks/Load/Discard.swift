import CLinux
import CoreLoop

/// Takes at most `count` received bytes off a TCP socket without copying them (MSG_TRUNC, see
/// tcp(7)). Whoever reads must know that they are content.
func discard(_ fd: Int32, _ count: Int) -> ReadOutcome {
    while true {
        let received = recv(fd, nil, count, Int32(MSG_TRUNC))
        if received > 0 { return .bytes(received) }
        if received == 0 { return .endOfStream }
        let code = lastErrno
        if code == EAGAIN { return .wouldBlock }
        if code != EINTR { return .failed(code) }
    }
}
