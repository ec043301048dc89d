/// The head of an answer, as one parse found it.
///
/// Kept and reused like `RequestHead`. What comes from an upstream is judged as strictly as what
/// comes from a client: `.invalid` means 502.
public final class ResponseHead {
    /// The bounds that every parse keeps; a head beyond them is `.invalid`.
    public let limits: HeadLimits
    /// The fields in the order of the message. Content-Length is marked hop-by-hop in 1xx and 204,
    /// where it may not be sent (RFC 9110 §8.6).
    public let fields: FieldList

    // Behind a pointer for the reason that RequestHead gives.
    @usableFromInline let facts: UnsafeMutablePointer<ResponseFacts>

    /// 0 or 1; higher minor versions are read as 1.
    public internal(set) var versionMinor: UInt8 {
        @inlinable get { facts.pointee.versionMinor }
        set { facts.pointee.versionMinor = newValue }
    }
    /// 100...599.
    public internal(set) var status: Int {
        @inlinable get { facts.pointee.status }
        set { facts.pointee.status = newValue }
    }
    /// The reason phrase, possibly empty.
    public internal(set) var reason: ByteRange {
        @inlinable get { facts.pointee.reason }
        set { facts.pointee.reason = newValue }
    }
    /// How the content ends (RFC 9112 §6.3); `.none` for 1xx, 204, 304 and answers to HEAD.
    public internal(set) var framing: BodyFraming {
        @inlinable get { facts.pointee.framing }
        set { facts.pointee.framing = newValue }
    }
    /// True where the connection to the upstream can be used again once the content was read.
    public internal(set) var keepAlive: Bool {
        @inlinable get { facts.pointee.keepAlive }
        set { facts.pointee.keepAlive = newValue }
    }
    /// True for a 101 with Connection: upgrade and an Upgrade field. A 101 without them is none.
    public internal(set) var isUpgrade: Bool {
        @inlinable get { facts.pointee.isUpgrade }
        set { facts.pointee.isUpgrade = newValue }
    }

    /// A head for messages within `limits`; its target limit is not used.
    public init(limits: HeadLimits) {
        self.limits = limits
        fields = FieldList(capacity: limits.fieldsMax)
        facts = .allocate(capacity: 1)
        facts.initialize(to: ResponseFacts())
    }

    deinit { facts.deallocate() }

    /// True where another answer to the same request follows: 1xx, but not 101.
    @inlinable public var isInterim: Bool { status < 200 && status != 101 }

    /// Parses one head from the first byte of `bytes`, which may hold content behind it.
    ///
    /// - Parameters:
    ///   - toHead: the request was HEAD: whatever the fields say, no content follows.
    ///   - toConnect: the request was CONNECT: a 2xx answer has no content but opens a tunnel.
    public func parse(
        _ bytes: UnsafeRawBufferPointer, toHead: Bool, toConnect: Bool = false
    ) -> HeadOutcome {
        guard let base = bytes.baseAddress, bytes.count > 0 else { return .incomplete }
        let visible = Bytes(base: base, count: min(bytes.count, limits.headBytesMax))
        let outcome: HeadOutcome
        switch parseStatusLine(visible) {
        case .complete(let next):
            outcome = FieldLines(visible, .head).parse(from: next, into: fields)
        case .incomplete: outcome = .incomplete
        case .invalid(let fault): outcome = .invalid(fault)
        }
        guard case .complete = outcome else {
            if outcome == .incomplete, bytes.count >= limits.headBytesMax {
                return .invalid(.headTooLarge)
            }
            return outcome
        }
        if let fault = judge(visible, toHead: toHead, toConnect: toConnect) {
            return .invalid(fault)
        }
        return outcome
    }

    /// As `parse(_:toHead:toConnect:)`, for a head whose first `seen` bytes were `.incomplete`
    /// before: bytes that end no line cost no parse.
    public func parse(
        _ bytes: UnsafeRawBufferPointer, toHead: Bool, toConnect: Bool = false, seen: Int
    ) -> HeadOutcome {
        precondition(seen >= 0 && seen <= bytes.count)
        if bytes.count < limits.headBytesMax, !bytes[seen...].contains(0x0A) { return .incomplete }
        return parse(bytes, toHead: toHead, toConnect: toConnect)
    }

    /// `HTTP-version SP status-code SP [reason-phrase] CRLF` (RFC 9112 §4).
    ///
    /// The second SP may be missing where there is no reason: many origins leave it out, and there
    /// is no second reading of it.
    @inline(__always)
    private func parseStatusLine(_ bytes: Bytes) -> RequestLine.Outcome {
        let start: Int
        switch HTTPVersion.parse(bytes, at: 0, closingByte: 0x20) {
        case .complete(let minor, let closing):
            versionMinor = minor
            start = closing &+ 1
        case .incomplete: return .incomplete
        case .invalid(let fault): return .invalid(fault == .badVersion ? .badStatusLine : fault)
        }
        var code = 0
        for index in start..<(start &+ 3) {
            guard index < bytes.count else { return .incomplete }
            guard Bytes.isDigit(bytes[index]) else { return .invalid(.badStatusLine) }
            code = code &* 10 &+ Int(bytes[index] &- 0x30)
        }
        guard code >= 100, code <= 599 else { return .invalid(.badStatus) }
        status = code
        let behind = start &+ 3
        guard behind < bytes.count else { return .incomplete }
        guard bytes[behind] == 0x20 || bytes[behind] == 0x0D else {
            return .invalid(bytes[behind] == 0x0A ? .bareLF : .badStatusLine)
        }
        let reasonStart = bytes[behind] == 0x20 ? behind &+ 1 : behind
        var end = bytes.firstControl(from: reasonStart)
        while end < bytes.count, bytes[end] == 0x09 { end = bytes.firstControl(from: end &+ 1) }
        guard end < bytes.count else { return .incomplete }
        guard bytes[end] == 0x0D else {
            return .invalid(bytes[end] == 0x0A ? .bareLF : .badStatusLine)
        }
        guard end &+ 1 < bytes.count else { return .incomplete }
        guard bytes[end &+ 1] == 0x0A else { return .invalid(.bareCR) }
        reason = ByteRange(found: reasonStart, end)
        return .complete(next: end &+ 2)
    }

    /// Framing by RFC 9112 §6.3, in its order. Bad framing fields are refused even where the answer
    /// has no content: the client would see them.
    @inline(__always)
    private func judge(_ bytes: Bytes, toHead: Bool, toConnect: Bool) -> HeadFault? {
        let isTunnel = toConnect && status >= 200 && status < 300
        switch FramingFields.read(bytes, fields, versionMinor: versionMinor) {
        case .neither: framing = .untilClose
        case .length(let length): framing = .length(length)
        case .chunked: framing = .chunked
        case .invalid(let fault): return fault
        }
        if status < 200 || status == 204 || status == 304 || toHead || isTunnel {
            framing = .none
            if let position = fields.first(.contentLength), status < 200 || status == 204 {
                fields.markHopByHop(position)
            }
        }
        let options = ConnectionOptions(bytes, fields)
        if let fault = options.fault { return fault }
        keepAlive = options.isPersistent(versionMinor: versionMinor) && framing != .untilClose
        isUpgrade =
            status == 101 && versionMinor >= 1 && options.upgrade && fields.contains(.upgrade)
        return nil
    }
}

/// What a parse of a head found, behind a pointer: see `ResponseHead.facts`.
@usableFromInline
struct ResponseFacts {
    @usableFromInline var versionMinor: UInt8 = 1
    @usableFromInline var status: Int = 0
    @usableFromInline var reason: ByteRange = ByteRange.empty
    @usableFromInline var framing: BodyFraming = BodyFraming.none
    @usableFromInline var keepAlive: Bool = true
    @usableFromInline var isUpgrade: Bool = false

    init() {}
}
