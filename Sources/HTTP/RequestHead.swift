/// The head of a request, as one parse found it.
///
/// A worker keeps one and parses every head into it; nothing is allocated after `init`. All ranges
/// count from the first byte of the buffer that was parsed, and everything here means something
/// only after `.complete`. Not for use by two threads.
public final class RequestHead {
    /// The bounds that every parse keeps; a head beyond them is `.invalid`.
    public let limits: HeadLimits
    /// The fields in the order of the message.
    public let fields: FieldList

    // Behind a pointer: a stored property would cost a runtime call (swift_beginAccess, 75
    // instructions) for each read by another module; measured 1,800 instructions a request.
    @usableFromInline let facts: UnsafeMutablePointer<RequestFacts>

    /// The method; `.other` for a token that this code does not know, whose bytes are
    /// `methodRange`.
    public internal(set) var method: Method {
        @inlinable get { facts.pointee.method }
        set { facts.pointee.method = newValue }
    }
    /// Where the method token stands.
    public internal(set) var methodRange: ByteRange {
        @inlinable get { facts.pointee.methodRange }
        set { facts.pointee.methodRange = newValue }
    }
    /// The target as it was sent.
    public internal(set) var target: ByteRange {
        @inlinable get { facts.pointee.target }
        set { facts.pointee.target = newValue }
    }
    /// Which of the four forms of RFC 9112 §3.2 the target has.
    public internal(set) var targetForm: TargetForm {
        @inlinable get { facts.pointee.targetForm }
        set { facts.pointee.targetForm = newValue }
    }
    /// Path and query as origin-form sends them. For absolute-form what follows the authority:
    /// where that is empty, `/` is sent instead, or `*` for OPTIONS; see also `pathNeedsSlash`.
    /// Empty for CONNECT.
    public internal(set) var path: ByteRange {
        @inlinable get { facts.pointee.path }
        set { facts.pointee.path = newValue }
    }
    /// The authority of an absolute-form or CONNECT target, else the value of Host; empty only for
    /// HTTP/1.0 without Host. Always a valid `host [":" port]`, the port possibly empty.
    public internal(set) var authority: ByteRange {
        @inlinable get { facts.pointee.authority }
        set { facts.pointee.authority = newValue }
    }
    /// 0 or 1; higher minor versions are read as 1.
    public internal(set) var versionMinor: UInt8 {
        @inlinable get { facts.pointee.versionMinor }
        set { facts.pointee.versionMinor = newValue }
    }
    /// `.none`, `.length` or `.chunked`.
    public internal(set) var framing: BodyFraming {
        @inlinable get { facts.pointee.framing }
        set { facts.pointee.framing = newValue }
    }
    /// True where the client wants the connection to persist (RFC 9112 §9.3).
    public internal(set) var keepAlive: Bool {
        @inlinable get { facts.pointee.keepAlive }
        set { facts.pointee.keepAlive = newValue }
    }
    /// True where the client waits for 100 before it sends content: HTTP/1.1 and there is content.
    public internal(set) var expectContinue: Bool {
        @inlinable get { facts.pointee.expectContinue }
        set { facts.pointee.expectContinue = newValue }
    }
    /// True for HTTP/1.1 where Connection names Upgrade and there is an Upgrade field.
    public internal(set) var wantsUpgrade: Bool {
        @inlinable get { facts.pointee.wantsUpgrade }
        set { facts.pointee.wantsUpgrade = newValue }
    }
    /// The value of Max-Forwards, at most `Limits.maxForwardsCeiling`; nil where there is none, or
    /// one that is no number, or several.
    public internal(set) var maxForwards: Int? {
        @inlinable get { facts.pointee.maxForwards }
        set { facts.pointee.maxForwards = newValue }
    }

    /// A head for messages within `limits`.
    public init(limits: HeadLimits) {
        self.limits = limits
        fields = FieldList(capacity: limits.fieldsMax)
        facts = .allocate(capacity: 1)
        facts.initialize(to: RequestFacts())
    }

    deinit { facts.deallocate() }

    /// True where there is a Host field. Always so for HTTP/1.1.
    @inlinable public var hasHost: Bool { fields.contains(.host) }

    /// True where a `/` belongs before `path`: an absolute-form target without path
    /// (`http://host`, `http://host?query`), unless it becomes `*`.
    public var pathNeedsSlash: Bool {
        guard targetForm == .absolute else { return false }
        return path.isEmpty ? method != .options : pathStartsWithQuery
    }

    var pathStartsWithQuery: Bool {
        get { facts.pointee.pathStartsWithQuery }
        set { facts.pointee.pathStartsWithQuery = newValue }
    }

    /// Parses one head from the first byte of `bytes`, which may hold content behind it.
    ///
    /// Refuses what RFC 9112 lets a recipient read in more than one way; see SECURITY.md. Costs
    /// time linear in the head.
    public func parse(_ bytes: UnsafeRawBufferPointer) -> HeadOutcome {
        guard let base = bytes.baseAddress, bytes.count > 0 else { return .incomplete }
        let visible = Bytes(base: base, count: min(bytes.count, limits.headBytesMax))
        var line = RequestLine()
        switch line.parse(visible, targetBytesMax: limits.targetBytesMax) {
        case .complete(let next): return parseFields(visible, line, from: next)
        case .incomplete:
            return bytes.count < limits.headBytesMax ? .incomplete : .invalid(.targetTooLong)
        case .invalid(let fault): return .invalid(fault)
        }
    }

    /// As `parse(_:)`, for a head whose first `seen` bytes were `.incomplete` before.
    ///
    /// A head can only have got further if a line ended since then, so that a client that sends it
    /// byte by byte costs one parse for each line, of which there are at most `fieldsMax` and a
    /// few.
    public func parse(_ bytes: UnsafeRawBufferPointer, seen: Int) -> HeadOutcome {
        precondition(seen >= 0 && seen <= bytes.count)
        if bytes.count < limits.headBytesMax, !bytes[seen...].contains(0x0A) { return .incomplete }
        return parse(bytes)
    }

    @inline(__always)
    private func parseFields(_ bytes: Bytes, _ line: RequestLine, from start: Int) -> HeadOutcome {
        let outcome = FieldLines(bytes, .head).parse(from: start, into: fields)
        guard case .complete = outcome else {
            if outcome == .incomplete, bytes.count >= limits.headBytesMax {
                return .invalid(.headTooLarge)
            }
            return outcome
        }
        method = line.method
        methodRange = line.methodRange
        target = line.target
        targetForm = line.targetForm
        path = line.path
        authority = line.authority
        versionMinor = line.versionMinor
        if let fault = judge(bytes) { return .invalid(fault) }
        return outcome
    }

    /// What only the whole head can tell.
    @inline(__always)
    private func judge(_ bytes: Bytes) -> HeadFault? {
        if let fault = judgeHost(bytes) { return fault }
        switch FramingFields.read(bytes, fields, versionMinor: versionMinor) {
        case .neither: framing = .none
        case .length(let length): framing = .length(length)
        case .chunked: framing = .chunked
        case .invalid(let fault): return fault
        }
        let options = ConnectionOptions(bytes, fields)
        if let fault = options.fault { return fault }
        keepAlive = options.isPersistent(versionMinor: versionMinor)
        wantsUpgrade =
            versionMinor >= 1 && options.upgrade && fields.contains(.upgrade)
            && !namesHTTP2(bytes)
        expectContinue = false
        maxForwards = nil
        let rare = FieldName.expect.bit | FieldName.maxForwards.bit
        if fields.present & rare != 0 || method == .trace || targetForm == .absolute {
            return judgeRare(bytes)
        }
        return nil
    }

    /// Whether any Upgrade field names HTTP/2 in clear (`h2c`): passed on, it would let requests by
    /// that nobody routes, limits or mirrors. It is left out like any hop-by-hop field.
    @inline(never)
    private func namesHTTP2(_ bytes: Bytes) -> Bool {
        for position in 0..<fields.count where fields[position].known == .upgrade {
            let value = fields[position].value
            var start = value.start
            while start + 3 <= value.end {
                let token = ByteRange(start, start + 3)
                if bytes.equalsIgnoringCase(token, "h2c") { return true }
                start += 1
            }
        }
        return false
    }

    @inline(__always)
    private func judgeHost(_ bytes: Bytes) -> HeadFault? {
        guard let position = fields.first(.host) else {
            return versionMinor == 0 ? nil : .missingHost
        }
        guard fields.repeated & FieldName.host.bit == 0 else { return .repeatedHost }
        let host = fields[position].value
        guard Authority.isValid(bytes, host) else { return .badHost }
        if authority.isEmpty { authority = host }
        return nil
    }

    @inline(never)
    private func judgeRare(_ bytes: Bytes) -> HeadFault? {
        pathStartsWithQuery = !path.isEmpty && bytes[path.start] == 0x3F
        if method == .trace, framing != .none { return .contentInTrace }
        if let position = fields.first(.expect) {
            guard fields.repeated & FieldName.expect.bit == 0,
                bytes.equalsIgnoringCase(fields[position].value, "100-continue")
            else { return .badExpectation }
            expectContinue =
                versionMinor >= 1 && framing != .none && framing != .length(0)
        }
        if let position = fields.first(.maxForwards),
            fields.repeated & FieldName.maxForwards.bit == 0
        {
            maxForwards = Self.maxForwards(bytes, fields[position].value)
        }
        return nil
    }

    private static func maxForwards(_ bytes: Bytes, _ value: ByteRange) -> Int? {
        guard !value.isEmpty else { return nil }
        var hops = 0
        for index in value.start..<value.end {
            guard Bytes.isDigit(bytes[index]) else { return nil }
            hops = min(hops * 10 + Int(bytes[index] - 0x30), Limits.maxForwardsCeiling)
        }
        return hops
    }
}

/// What a parse of a head found, behind a pointer: see `RequestHead.facts`.
@usableFromInline
struct RequestFacts {
    @usableFromInline var method: Method = Method.other
    @usableFromInline var methodRange: ByteRange = ByteRange.empty
    @usableFromInline var target: ByteRange = ByteRange.empty
    @usableFromInline var targetForm: TargetForm = TargetForm.origin
    @usableFromInline var path: ByteRange = ByteRange.empty
    @usableFromInline var authority: ByteRange = ByteRange.empty
    @usableFromInline var versionMinor: UInt8 = 1
    @usableFromInline var framing: BodyFraming = BodyFraming.none
    @usableFromInline var keepAlive: Bool = true
    @usableFromInline var expectContinue: Bool = false
    @usableFromInline var wantsUpgrade: Bool = false
    @usableFromInline var maxForwards: Int?
    @usableFromInline var pathStartsWithQuery: Bool = false

    init() {}
}
