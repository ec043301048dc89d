/// What events count as the same: those said at one place of the code.
public struct LogKind: Hashable, Sendable {
    private let file: UInt
    private let line: UInt

    /// The place `line` of `file`, a literal that lives as long as the program.
    public init(_ file: StaticString, _ line: UInt) {
        self.file = file.hasPointerRepresentation ? UInt(bitPattern: file.utf8Start) : 0
        self.line = line
    }
}

/// Keeps a fault that repeats from filling the log: of each kind the first
/// `Limits.logBurstMax` events of `Limits.logWindowMs` are said, all further ones counted, and the
/// count is said when the window is over. Pure: time is an argument.
public struct LogThrottle {
    /// What a window held back.
    public struct Summary: Equatable, Sendable {
        /// Of the last event that was not said: its level and its text.
        public let level: LogLevel
        public let text: String
        /// How many were not said.
        public let count: Int
    }

    private struct Window {
        let kind: LogKind
        var endsAt: Instant
        var said = 0
        var held = 0
        var level = LogLevel.debug
        var lastText = ""
    }

    private var windows: [Window] = []
    /// When a summary falls due; nil where nothing is held back.
    public private(set) var nextDue: Instant?

    /// Nothing seen yet.
    public init() { windows.reserveCapacity(Limits.logKindsMax) }

    /// Whether an event is to be said; false has counted it.
    public mutating func admits(
        _ kind: LogKind, _ level: LogLevel, _ text: String, now: Instant
    ) -> Bool {
        let place: Int
        if let found = windows.firstIndex(where: { $0.kind == kind }) {
            place = found
            // A window that held something ends by its summary: `takeDue` begins the next.
            if windows[place].endsAt <= now, windows[place].held == 0 {
                windows[place] = Window(kind: kind, endsAt: now.adding(ms: Limits.logWindowMs))
            }
        } else {
            guard let free = placeForNew(now) else { return true }
            place = free
            windows[place] = Window(kind: kind, endsAt: now.adding(ms: Limits.logWindowMs))
        }
        if windows[place].said < Limits.logBurstMax {
            windows[place].said += 1
            return true
        }
        windows[place].held += 1
        windows[place].level = level
        windows[place].lastText = text
        if nextDue.map({ windows[place].endsAt < $0 }) ?? true { nextDue = windows[place].endsAt }
        return false
    }

    /// A place for one more kind; nil where all are taken by windows that are not over.
    private mutating func placeForNew(_ now: Instant) -> Int? {
        if windows.count < Limits.logKindsMax {
            windows.append(Window(kind: LogKind("", 0), endsAt: now))
            return windows.count - 1
        }
        return windows.firstIndex { $0.held == 0 && $0.endsAt <= now }
    }

    /// The next summary of a window that is over; nil where there is none. To be called until then.
    /// With `now` nil, those of windows that are not over too: at the process's end.
    public mutating func takeDue(now: Instant?) -> Summary? {
        guard let nextDue, now.map({ nextDue <= $0 }) ?? true else { return nil }
        let due = windows.firstIndex { window in
            window.held > 0 && (now.map { window.endsAt <= $0 } ?? true)
        }
        defer { self.nextDue = windows.filter { $0.held > 0 }.map(\.endsAt).min() }
        guard let due else { return nil }
        let window = windows[due]
        windows.remove(at: due)
        return Summary(level: window.level, text: window.lastText, count: window.held)
    }
}
