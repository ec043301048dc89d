import CLinux
import CoreLoop

/// All content that is sent in a simulation: every body is a run of these bytes, found by the
/// number of the message that it belongs to. A byte of another message, or one too many or too few,
/// is then found by one `memcmp`.
enum Content {
    /// The longest body, and the runs' starts: 2^20 of them.
    static let bodyBytesMax = 4 << 20
    private static let startBits: UInt64 = 20

    nonisolated(unsafe) static let bytes: UnsafeRawPointer = {
        let count = bodyBytesMax + (1 << startBits)
        let memory = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: 16)
        var random = FastRandom(seed: 0x00C0_FFEE)
        var place = 0
        while place < count {
            memory.storeBytes(of: random.next(), toByteOffset: place, as: UInt64.self)
            place += 8
        }
        return UnsafeRawPointer(memory)
    }()

    /// Where the body of a request begins.
    static func ofRequest(_ id: Int) -> UnsafeRawPointer { run(UInt64(id) * 2) }
    /// Where the body of the primary's answer to it begins.
    static func ofAnswer(_ id: Int) -> UnsafeRawPointer { run(UInt64(id) * 2 + 1) }

    private static func run(_ number: UInt64) -> UnsafeRawPointer {
        bytes + Int(((number &+ 1) &* 0x9E37_79B9_7F4A_7C15) >> (64 - startBits))
    }
}

/// The seed's choices.
struct Dice {
    private var random: FastRandom

    init(seed: UInt64) { random = FastRandom(seed: seed) }

    /// A number below `bound`, which is above 0.
    mutating func below(_ bound: Int) -> Int { Int(random.next() >> 1) % bound }
    mutating func within(_ range: ClosedRange<Int>) -> Int {
        range.lowerBound + below(range.count)
    }
    /// True in `share` of 100 cases.
    mutating func chance(_ share: Int) -> Bool { below(100) < share }
    mutating func one<T>(of list: [T]) -> T { list[below(list.count)] }
    mutating func number() -> UInt64 { random.next() }

    /// A length of a body: often none or small, at times near a block's border, seldom megabytes.
    mutating func length(blockBytes: Int, max: Int) -> Int {
        let wanted: Int =
            switch below(20) {
            case 0..<4: 0
            case 4..<11: below(300)
            case 11..<15: blockBytes * within(1...4) + within(-3...3)
            case 15..<18: below(60_000)
            case 18: below(300_000)
            default: below(3 << 20)
            }
        return min(wanted, max)
    }
}

/// What is sent, in pieces: text, or a run of `Content`.
struct Outgoing {
    private enum Piece {
        case text([UInt8])
        case content(UnsafeRawPointer, Int)

        var count: Int {
            switch self {
            case .text(let bytes): bytes.count
            case .content(_, let count): count
            }
        }
    }

    private var pieces: [Piece] = []
    private var first = 0
    private var offset = 0

    var isEmpty: Bool { first == pieces.count }
    /// Bytes still to be sent.
    var byteCount: Int { pieces[first...].reduce(-offset) { $0 + $1.count } }

    mutating func add(_ text: String) {
        if !text.isEmpty { pieces.append(.text(Array(text.utf8))) }
    }

    mutating func add(_ start: UnsafeRawPointer, _ count: Int) {
        if count > 0 { pieces.append(.content(start, count)) }
    }

    /// A body in chunked coding, cut where the dice fall.
    mutating func addChunked(
        _ start: UnsafeRawPointer, _ count: Int, trailers: String, _ dice: inout Dice
    ) {
        var position = 0
        // Many tiny chunks of a large body would take all the time there is.
        let chunkMax = dice.chance(30) ? max(20, count / 50) : max(1, count)
        while position < count {
            let size = min(count - position, dice.within(1...chunkMax))
            let isExtended = dice.chance(5)
            add("\(String(size, radix: 16))\(isExtended ? ";name=value" : "")\r\n")
            add(start + position, size)
            add("\r\n")
            position += size
        }
        add("0\r\n\(trailers)\r\n")
    }

    /// Sends at most `limit` bytes. Returns how many; nil where the connection is broken.
    mutating func send(to fd: Int32, atMost limit: Int) -> Int? {
        var sent = 0
        while sent < limit, first < pieces.count {
            let count = min(pieces[first].count - offset, limit - sent)
            let outcome: WriteOutcome
            switch pieces[first] {
            case .text(let bytes):
                outcome = bytes.withUnsafeBytes {
                    Socket.send(fd, $0.baseAddress! + offset, count)
                }
            case .content(let start, _): outcome = Socket.send(fd, start + offset, count)
            }
            switch outcome {
            case .bytes(let n):
                sent += n
                offset += n
                if offset == pieces[first].count {
                    first += 1
                    offset = 0
                }
                if n < count { return sent }
            case .wouldBlock: return sent
            case .failed: return nil
            }
        }
        if isEmpty {
            pieces.removeAll(keepingCapacity: true)
            first = 0
        }
        return sent
    }
}
