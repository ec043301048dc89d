import HTTP
import Upstream

/// The heads of requests that were held.
extension Forwarding {
    /// What all heads of one request have in common, made once: the mirror's copy has the primary's
    /// request id and span.
    struct HeldLines {
        fileprivate let leftOut: UInt64
        fileprivate let hasTrace: Bool
    }

    /// Begins the heads of the request that `head` was parsed from, which `peer` sent.
    func beginHeldRequest(_ head: RequestHead, _ bytes: UnsafeRawPointer, peer: Peer) -> HeldLines {
        // There is nothing left to expect: the body comes right behind.
        var left =
            FieldName.maxForwards.bit | FieldName.contentLength.bit | FieldName.expect.bit
            | (peer.isTrusted ? trustedPlan : plan).leftOut
        let hasTrace = nextTrace(head, bytes, leavingOut: &left)
        if !head.fields.contains(.xRequestID) { makeID() }
        return HeldLines(leftOut: left, hasTrace: hasTrace)
    }

    /// As `writeRequest`, for a request to an LLM target whose body is whole: it goes out with its
    /// length, whatever framing it came in. `isTranslated`: for a target of another language than
    /// the client's.
    func writeHeldRequest(
        _ head: RequestHead, _ bytes: UnsafeRawPointer, route: Int, _ lines: HeldLines,
        bodyBytes: Int, isTranslated: Bool, into writer: inout HeadWriter
    ) {
        let target = targets[routeTargets[route]]
        guard let provider = target.provider else {
            preconditionFailure("only requests to LLM targets are held")
        }
        if isTranslated {
            writeTranslatedLine(head, bytes, target, rewrites[route], &writer)
        } else {
            writeRequestLine(head, bytes, target, rewrites[route], &writer)
        }
        writer.append(provider.hostLine.buffer)
        if isTranslated {
            provider.copyTranslatedFields(
                head.fields, bytes, leavingOut: lines.leftOut, transport, clientKeys, &writer)
        } else {
            provider.copyFields(
                head.fields, bytes, leavingOut: lines.leftOut, transport, clientKeys,
                leavingOutEncoding: provider.readsAnswer(head, bytes), &writer)
        }
        writer.append("Content-Length: ")
        writer.append(decimal: UInt64(bodyBytes))
        writer.append("\r\n")
        if let hops = head.maxForwards { writeMaxForwards(hops, &writer) }
        if lines.hasTrace { writeTrace(&writer) }
        if !head.fields.contains(.xRequestID) { writeMadeID(&writer) }
        writer.append(head.versionMinor == 0 ? viaLine10.buffer : viaLine.buffer)
        writer.append("\r\n")
    }
}
