import CoreLoop
import HTTP
import Mirror
import Providers
import TLS
import Upstream

/// Writes the heads that are passed on: hop-by-hop fields left out (RFC 9110 §7.6.1), Via added
/// (§7.6.3), and what the upstream wants to know of the client put in. No I/O.
///
/// Lines that pass unchanged lie side by side, so that a head is a few runs copied and a few lines
/// added.
final class Forwarding {
    struct Target {
        let authority: PreparedBytes
        let pathPrefix: PreparedBytes
        let provider: ProviderFields?
    }

    struct Rewrite {
        let matched: Int
        let replacement: PreparedBytes
        let endsInSlash: Bool
    }

    private let settings: ForwardingSettings
    /// Who the client is behind proxies that are trusted.
    let chain: ClientChain
    let plan: OriginPlan
    let trustedPlan: OriginPlan
    /// By the minor version that the message came in (RFC 9110 §7.6.3).
    let viaLine: PreparedBytes
    let viaLine10: PreparedBytes
    let transport: TransportFields
    /// By which clients are let in; nil where no key is asked for.
    let clientKeys: ClientKeys?
    /// Whether lines have to be looked at one by one.
    private let copiesByLine: Bool
    let targets: UnsafeMutablePointer<Target>
    let routeTargets: UnsafeMutablePointer<Int>
    let rewrites: UnsafeMutablePointer<Rewrite?>
    private let dateLine: UnsafeMutableRawPointer
    private let dateSecond: UnsafeMutablePointer<UInt64>
    private let random: UnsafeMutablePointer<FastRandom>
    private let madeID: UnsafeMutablePointer<(UInt64, UInt64)>
    private let madeTrace: UnsafeMutablePointer<TraceParent>
    private static let dateLineBytes = 6 + HTTPDate.bytesCount + 2

    init(_ settings: GatewaySettings, seed: UInt64) {
        self.settings = settings.forwarding
        chain = ClientChain(settings.forwarding)
        plan = OriginPlan(settings.forwarding, peerIsTrusted: false)
        trustedPlan = OriginPlan(settings.forwarding, peerIsTrusted: true)
        viaLine = PreparedBytes("Via: 1.1 \(settings.forwarding.viaName)\r\n")
        viaLine10 = PreparedBytes("Via: 1.0 \(settings.forwarding.viaName)\r\n")
        transport = TransportFields(settings.listen)
        clientKeys = ClientKeys(settings.auth)
        copiesByLine = transport.namesClients || settings.auth != nil
        targets = .allocate(capacity: settings.targets.count)
        for (index, target) in settings.targets.enumerated() {
            (targets + index).initialize(
                to: Target(
                    authority: PreparedBytes(target.authority),
                    pathPrefix: PreparedBytes(target.pathPrefix),
                    provider: ProviderFields(
                        target, hasEvents: settings.eventLog != nil)))
        }
        routeTargets = .allocate(capacity: settings.routes.count)
        rewrites = .allocate(capacity: settings.routes.count)
        for (index, route) in settings.routes.enumerated() {
            routeTargets[index] = route.target
            var rewrite: Rewrite?
            if let replacement = route.rewritePrefix, case .prefix(let prefix) = route.path {
                rewrite = Rewrite(
                    matched: prefix.utf8.count, replacement: PreparedBytes(replacement),
                    endsInSlash: replacement.hasSuffix("/"))
            }
            (rewrites + index).initialize(to: rewrite)
        }
        dateLine = .allocate(byteCount: Self.dateLineBytes, alignment: 8)
        dateSecond = .allocate(capacity: 1)
        dateSecond.initialize(to: 0)
        madeID = .allocate(capacity: 1)
        madeID.initialize(to: (0, 0))
        madeTrace = .allocate(capacity: 1)
        madeTrace.initialize(to: TraceParent(traceHigh: 0, traceLow: 0, span: 0, flags: 0))
        random = .allocate(capacity: 1)
        random.initialize(to: FastRandom(seed: seed))
    }

    deinit {
        targets.deallocate()
        routeTargets.deallocate()
        rewrites.deallocate()
        dateLine.deallocate()
        dateSecond.deallocate()
        random.deallocate()
        madeID.deallocate()
        madeTrace.deallocate()
    }

    /// The target of a route.
    func target(ofRoute route: Int) -> Int { routeTargets[route] }

    /// Bytes that stand before the path in what the route's target gets.
    func prefixBytes(ofRoute route: Int) -> Int { targets[routeTargets[route]].pathPrefix.count }

    /// Whether the route's target speaks the language of an LLM provider.
    @inline(__always)
    func hasProvider(ofRoute route: Int) -> Bool { targets[routeTargets[route]].provider != nil }

    /// The language of the route's target; nil where it is none of an LLM provider's.
    func dialect(ofRoute route: Int) -> Dialect? { targets[routeTargets[route]].provider?.dialect }

    /// What the route's target is to copies of what it gets.
    func copyPrimary(ofRoute route: Int) -> CopyPrimary {
        targets[routeTargets[route]].provider?.copyPrimary ?? .plain
    }

    /// Whether the route's target has to have a key and has none.
    func lacksKey(ofRoute route: Int) -> Bool {
        targets[routeTargets[route]].provider?.lacksKey ?? false
    }

    /// What a request asks of an LLM target; nil where the target is none.
    func ask(_ head: RequestHead, _ bytes: UnsafeRawPointer, route: Int) -> ProviderAsk? {
        targets[routeTargets[route]].provider?.ask(head, bytes)
    }

    /// The member with its comma that tells who gave an answer; empty where there is none.
    func annotation(ofRoute route: Int) -> UnsafeRawBufferPointer {
        targets[routeTargets[route]].provider?.annotation.buffer
            ?? UnsafeRawBufferPointer(start: nil, count: 0)
    }

    /// What the route's target wants of translated requests.
    func translation(ofRoute route: Int) -> TranslationSettings {
        var settings = TranslationSettings()
        if let provider = targets[routeTargets[route]].provider {
            settings.maxTokens = provider.maxTokens
        }
        return settings
    }

    // MARK: Requests

    /// Writes the head for the upstream. `bytes` is what `head` was parsed from, `headBytes` its
    /// length; `peer` is who sent it, `tls` and `entry` say how and where the peer came in.
    func writeRequest(
        _ head: RequestHead, _ bytes: UnsafeRawPointer, headBytes: Int, route: Int,
        peer: Peer, tls: TLSSession = TLSSession(), entry: Int = 0,
        into writer: inout HeadWriter
    ) {
        let target = targets[routeTargets[route]]
        writeRequestLine(head, bytes, target, rewrites[route], &writer)
        let plan = peer.isTrusted ? trustedPlan : plan
        var left = FieldName.maxForwards.bit | plan.leftOut
        let trace = nextTrace(head, bytes, leavingOut: &left)
        let isAbsolute = head.targetForm == .absolute
        if isAbsolute { left |= FieldName.host.bit }
        let present = head.fields.present
        if let provider = target.provider {
            writer.append(provider.hostLine.buffer)
        } else if isAbsolute || !head.hasHost {
            writer.append("Host: ")
            if head.authority.isEmpty {
                writer.append(target.authority.buffer)
            } else {
                append(bytes, head.authority, &writer)
            }
            writer.append("\r\n")
        }
        if let provider = target.provider {
            // What comes back compressed could not be told apart.
            provider.copyFields(
                head.fields, bytes, leavingOut: left, transport, clientKeys,
                leavingOutEncoding: provider.readsAnswer(head, bytes), &writer)
        } else if copiesByLine {
            transport.copyFields(head.fields, bytes, leavingOut: left, clientKeys, &writer)
            transport.writeSubject(tls, entry, &writer)
        } else {
            copyFields(head.fields, bytes, headBytes: headBytes, leavingOut: left, &writer)
        }
        if head.framing == .chunked { writer.append("Transfer-Encoding: chunked\r\n") }
        if head.wantsUpgrade { writeUpgrade(head.fields, bytes, &writer) }
        if let hops = head.maxForwards { writeMaxForwards(hops, &writer) }
        if target.provider == nil { writeOrigin(head, bytes, peer, plan, &writer) }
        if trace { writeTrace(&writer) }
        if present & FieldName.xRequestID.bit == 0 { writeRequestID(&writer) }
        writer.append(head.versionMinor == 0 ? viaLine10.buffer : viaLine.buffer)
        writer.append("\r\n")
    }

    func writeMaxForwards(_ hops: Int, _ writer: inout HeadWriter) {
        writer.append("Max-Forwards: ")
        writer.append(decimal: UInt64(max(0, hops - 1)))
        writer.append("\r\n")
    }

    @inline(__always)
    func append(_ bytes: UnsafeRawPointer, _ range: ByteRange, _ writer: inout HeadWriter) {
        writer.append(UnsafeRawBufferPointer(start: bytes + range.start, count: Int(range.count)))
    }

    func writeRequestLine(
        _ head: RequestHead, _ bytes: UnsafeRawPointer, _ target: Target, _ rewrite: Rewrite?,
        _ writer: inout HeadWriter
    ) {
        append(bytes, head.methodRange, &writer)
        writer.append(byte: 0x20)
        if head.targetForm == .asterisk || (head.path.isEmpty && head.method == .options) {
            writer.append("* HTTP/1.1\r\n")
            return
        }
        var path = head.path
        if target.pathPrefix.count > 0 { writer.append(target.pathPrefix.buffer) }
        if let provider = target.provider, provider.azureStart.count > 0, head.method == .post,
            let asked = Inference(head, bytes), asked.dialect == provider.dialect
        {
            return provider.writeAzureTarget(asked, &writer)
        }
        if let rewrite {
            path.offset += UInt32(rewrite.matched)
            path.count -= UInt32(rewrite.matched)
            let restHasSlash = !path.isEmpty && firstByte(bytes, path) == 0x2F
            let kept = rewrite.endsInSlash && restHasSlash ? 1 : 0
            writer.append(
                UnsafeRawBufferPointer(rebasing: rewrite.replacement.buffer.dropLast(kept)))
            if rewrite.replacement.count == 0, !restHasSlash { writer.append(byte: 0x2F) }
        } else if head.pathNeedsSlash {
            writer.append(byte: 0x2F)
        }
        append(bytes, path, &writer)
        writer.append(" HTTP/1.1\r\n")
    }

    private func firstByte(_ bytes: UnsafeRawPointer, _ range: ByteRange) -> UInt8 {
        bytes.load(fromByteOffset: range.start, as: UInt8.self)
    }

    /// Copies the lines that pass, run by run.
    @inline(__always)
    private func copyFields(
        _ fields: borrowing FieldList, _ bytes: UnsafeRawPointer, headBytes: Int,
        leavingOut: UInt64,
        _ writer: inout HeadWriter
    ) {
        guard fields.count > 0 else { return }
        var runStart = fields[0].line.start
        for index in 0..<fields.count {
            let field = fields[index]
            guard field.isHopByHop || field.known.bit & leavingOut != 0 else { continue }
            let line = field.line
            if line.start > runStart {
                writer.append(
                    UnsafeRawBufferPointer(start: bytes + runStart, count: line.start - runStart))
            }
            runStart = line.end
        }
        let end = headBytes - 2
        if end > runStart {
            writer.append(UnsafeRawBufferPointer(start: bytes + runStart, count: end - runStart))
        }
    }

    private func writeUpgrade(
        _ fields: borrowing FieldList, _ bytes: UnsafeRawPointer, _ writer: inout HeadWriter
    ) {
        writer.append("Connection: upgrade\r\n")
        for index in 0..<fields.count where fields[index].known == .upgrade {
            append(bytes, fields[index].line, &writer)
        }
    }

    func writeRequestID(_ writer: inout HeadWriter) {
        makeID()
        writeMadeID(&writer)
    }

    @inline(__always)
    func makeID() {
        madeID.pointee = UUIDv7.make(
            milliseconds: WallClock.milliseconds(), random.pointee.next(), random.pointee.next())
    }

    /// Appends a field with the X-Request-Id that was made last.
    @inline(__always)
    func writeMadeID(_ writer: inout HeadWriter) {
        writer.append("X-Request-Id: ")
        appendMadeID(to: &writer)
        writer.append("\r\n")
    }

    /// Appends the X-Request-Id that was made last.
    func appendMadeID(to writer: inout HeadWriter) {
        UUIDv7.append(madeID.pointee.0, madeID.pointee.1, to: &writer)
    }

    // MARK: Traces

    /// Works out the trace of the request that goes out, and which fields it takes the place of.
    /// False where it gets none.
    @inline(__always)
    func nextTrace(
        _ head: RequestHead, _ bytes: UnsafeRawPointer, leavingOut left: inout UInt64
    ) -> Bool {
        let bits = FieldName.traceparent.bit | FieldName.tracestate.bit
        if head.fields.present & bits == 0, settings.trace != .always { return false }
        return makeTrace(head, bytes, leavingOut: &left)
    }

    @inline(never)
    private func makeTrace(
        _ head: RequestHead, _ bytes: UnsafeRawPointer, leavingOut left: inout UInt64
    ) -> Bool {
        if settings.trace == .off { return false }
        left |= FieldName.traceparent.bit
        let span = max(1, random.pointee.next())
        if var trace = TraceParent(head.fields, bytes) {
            trace.span = span
            madeTrace.pointee = trace
            return true
        }
        // Without a parent that can be read, what vendors wrote beside it means nothing (§3.3.1).
        left |= FieldName.tracestate.bit
        guard settings.trace == .always else { return false }
        madeTrace.pointee = TraceParent(
            traceHigh: random.pointee.next(), traceLow: max(1, random.pointee.next()), span: span,
            flags: TraceParent.sampled)
        return true
    }

    func writeTrace(_ writer: inout HeadWriter) {
        writer.append("traceparent: ")
        madeTrace.pointee.append(to: &writer)
        writer.append("\r\n")
    }

    /// The trace that was begun for the request whose head was written last.
    var begunTrace: TraceParent? { settings.trace == .always ? madeTrace.pointee : nil }

    // MARK: Answers

    /// How an answer's head is changed for its client.
    struct AnswerForm {
        var isChunked = false
        var closes = false
        /// The client speaks HTTP/1.0 and wants to keep the connection.
        var keepsHTTP10 = false
        var isUpgrade = false
        var isInterim = false
        /// The entry of `listen` that the client came in by, where it speaks TLS; -1 for plain.
        var secureEntry = -1
        var wallMs: UInt64 = 0
        /// In the place of the upstream's Content-Length.
        var contentLength: UInt64?
    }

    /// Writes the head for the client.
    func writeAnswer(
        _ head: ResponseHead, _ bytes: UnsafeRawPointer, headBytes: Int, _ form: AnswerForm,
        into writer: inout HeadWriter
    ) {
        let lineEnd = head.fields.count > 0 ? head.fields[0].line.start : headBytes - 2
        writer.append("HTTP/1.1")
        // Behind the version the line is passed on as it came.
        writer.append(UnsafeRawBufferPointer(start: bytes + 8, count: lineEnd - 8))
        let left = form.contentLength == nil ? 0 : FieldName.contentLength.bit
        copyFields(head.fields, bytes, headBytes: headBytes, leavingOut: left, &writer)
        if !form.isInterim {
            if let length = form.contentLength {
                writer.append("Content-Length: ")
                writer.append(decimal: length)
                writer.append("\r\n")
            }
            if form.isChunked { writer.append("Transfer-Encoding: chunked\r\n") }
            if form.secureEntry >= 0 {
                transport.writePolicy(head.fields, bytes, form.secureEntry, &writer)
            }
            if !head.fields.contains(.date), !form.isUpgrade { writeDate(form.wallMs, &writer) }
            if form.isUpgrade {
                writeUpgrade(head.fields, bytes, &writer)
            } else if form.closes {
                writer.append("Connection: close\r\n")
            } else if form.keepsHTTP10 {
                writer.append("Connection: keep-alive\r\n")
            }
        }
        writer.append(head.versionMinor == 0 ? viaLine10.buffer : viaLine.buffer)
        writer.append("\r\n")
    }

    /// Appends Strict-Transport-Security where the listener has it, for an answer made here.
    func writePolicy(secureEntry: Int, _ writer: inout HeadWriter) {
        if secureEntry >= 0 { transport.writePolicy(secureEntry, &writer) }
    }

    /// Appends a Date line of now, rendered once a second.
    func writeDate(_ wallMs: UInt64, _ writer: inout HeadWriter) {
        let second = wallMs / 1_000
        if dateSecond.pointee != second {
            dateSecond.pointee = second
            var line = HeadWriter(
                UnsafeMutableRawBufferPointer(start: dateLine, count: Self.dateLineBytes))
            line.append("Date: ")
            HTTPDate.append(Int64(second), to: &line)
            line.append("\r\n")
        }
        writer.append(UnsafeRawBufferPointer(start: dateLine, count: Self.dateLineBytes))
    }

    /// Writes the trailer fields that pass, without the closing empty line.
    func writeTrailers(
        _ fields: borrowing FieldList, _ bytes: UnsafeRawPointer, into writer: inout HeadWriter
    ) {
        for index in 0..<fields.count where !fields[index].isHopByHop {
            append(bytes, fields[index].line, &writer)
        }
    }
}
