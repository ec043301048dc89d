import HTTP
import Upstream

/// The heads of requests that were held.
extension Forwarding {
    /// As `writeRequest`, for a request to an LLM target whose body is whole: it goes out with its
    /// length, whatever framing it came in.
    func writeHeldRequest(
        _ head: RequestHead, _ bytes: UnsafeRawPointer, route: Int, peer: Peer, bodyBytes: Int,
        into writer: inout HeadWriter
    ) {
        let target = targets[routeTargets[route]]
        guard let provider = target.provider else {
            preconditionFailure("only requests to LLM targets are held")
        }
        writeRequestLine(head, bytes, target, rewrites[route], &writer)
        let plan = peer.isTrusted ? trustedPlan : plan
        // There is nothing left to expect: the body comes right behind.
        var left =
            FieldName.maxForwards.bit | FieldName.contentLength.bit | FieldName.expect.bit
            | plan.leftOut
        let trace = nextTrace(head, bytes, leavingOut: &left)
        writer.append(provider.hostLine.buffer)
        provider.copyFields(
            head.fields, bytes, leavingOut: left, transport,
            leavingOutEncoding: provider.annotates(head, bytes), &writer)
        writer.append("Content-Length: ")
        writer.append(decimal: UInt64(bodyBytes))
        writer.append("\r\n")
        if let hops = head.maxForwards { writeMaxForwards(hops, &writer) }
        if trace { writeTrace(&writer) }
        if !head.fields.contains(.xRequestID) { writeRequestID(&writer) }
        writer.append(head.versionMinor == 0 ? viaLine10.buffer : viaLine.buffer)
        writer.append("\r\n")
    }
}
