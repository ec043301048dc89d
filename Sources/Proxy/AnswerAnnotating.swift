import CLinux
import CoreLoop
import HTTP
import Providers

/// Puts the member that tells who gave it into a chat answer.
///
/// The member goes in front of the first one of the object, where the bytes before it are moved to
/// the left, into the room that the answer's head has left: what follows is passed on as it came,
/// from where it lies.
extension ProxyWorker {
    /// Where the member goes in an answer whose head is parsed; `bytes` begin with that head.
    func findAnnotationPlace(
        _ slot: Int, _ client: Int, _ bytes: UnsafeRawBufferPointer, headBytes: Int
    ) -> ProviderAnnotation.Place {
        let member = forwarding.annotation(ofRoute: Int(clients[client].pointee.route))
        guard answerHead.status == 200, upstreams[slot].pointee.largeHead < 0,
            headBytes > member.count + ProxyLimits.chunkLineBytesMax,
            hasContentType("application/json", bytes.baseAddress!),
            !isCompressed(bytes.baseAddress!)
        else { return .nowhere }
        let body = bytes[headBytes...]
        switch answerHead.framing {
        case .length(let length):
            let count = Int(min(UInt64(body.count), length))
            return place(in: body.prefix(count), isAll: UInt64(count) == length)
        case .chunked:
            guard let line = firstChunk(body) else {
                return body.count < ProxyLimits.chunkLineBytesMax ? .unknown : .nowhere
            }
            let data = body[line.dataStart...].prefix(line.size)
            return place(in: data, isAll: data.count == line.size)
        default: return .nowhere
        }
    }

    private func place(
        in body: Swift.Slice<UnsafeRawBufferPointer>, isAll: Bool
    ) -> ProviderAnnotation.Place {
        switch ProviderAnnotation.place(in: UnsafeRawBufferPointer(rebasing: body)) {
        case .at(let offset): .at(body.startIndex + offset)
        case .nowhere: .nowhere
        // Nobody writes so much white space but to have us wait for more.
        case .unknown: isAll || body.count > ProxyLimits.annotationLookMax ? .nowhere : .unknown
        }
    }

    /// Adds the member to the length that the answer's head tells.
    func announceAnnotation(_ slot: Int, _ client: Int, _ form: inout Forwarding.AnswerForm) {
        guard case .at = annotationPlace, case .length = answerHead.framing else { return }
        let upstream = upstreams[slot]
        let member = forwarding.annotation(ofRoute: Int(clients[client].pointee.route))
        upstream.pointee.bodyLeft += UInt64(member.count)
        form.contentLength = upstream.pointee.bodyLeft
    }

    /// The size line of a chunked body's first chunk, if it is whole and has no extension.
    private func firstChunk(
        _ body: Swift.Slice<UnsafeRawBufferPointer>
    ) -> (size: Int, dataStart: Int)? {
        var size = 0
        for (index, byte) in body.prefix(ProxyLimits.chunkLineBytesMax).enumerated() {
            let at = body.startIndex + index
            switch byte {
            case 0x30...0x39: size = size << 4 | Int(byte - 0x30)
            case 0x41...0x46, 0x61...0x66: size = size << 4 | Int((byte | 0x20) - 0x57)
            case 0x0D where index > 0 && at + 1 < body.endIndex && body[at + 1] == 0x0A:
                return (size, at + 2)
            default: return nil
            }
        }
        return nil
    }

    /// Whether the answer's media type begins with `type`.
    func hasContentType(_ type: StaticString, _ bytes: UnsafeRawPointer) -> Bool {
        guard let place = answerHead.fields.first(.contentType) else { return false }
        return FieldText(answerHead.fields[place].value, of: bytes).hasPrefix(type)
    }

    /// Whether the answer is packed in a way that hides what it says.
    func isCompressed(_ bytes: UnsafeRawPointer) -> Bool {
        for index in 0..<answerHead.fields.count {
            let name = answerHead.fields[index].name
            if ProviderFields.isName(bytes + name.start, Int(name.count), "content-encoding") {
                return true
            }
        }
        return false
    }

    /// Puts the member in front of the byte at `place`, counted from `base`, and gives back where
    /// what is passed on now begins. The head is written already.
    func putAnnotation(
        _ client: Int, _ base: UnsafeMutableRawPointer, headBytes: Int, at place: Int
    ) -> Int {
        let member = forwarding.annotation(ofRoute: Int(clients[client].pointee.route))
        var start = headBytes
        var line: (size: Int, dataStart: Int)?
        if case .chunked = answerHead.framing {
            // Its end is behind the place, which was found in its data.
            line = firstChunk(
                UnsafeRawBufferPointer(start: base, count: place)[headBytes...])
            start = line?.dataStart ?? headBytes
        }
        memmove(base + start - member.count, base + start, place - start)
        memcpy(base + place - member.count, member.baseAddress!, member.count)
        start -= member.count
        guard let line else { return start }
        var digits = 1
        while (line.size + member.count) >> (4 * digits) > 0 { digits += 1 }
        start -= digits + 2
        var writer = HeadWriter(
            UnsafeMutableRawBufferPointer(start: base + start, count: digits + 2))
        writer.append(hex: UInt64(line.size + member.count))
        writer.append("\r\n")
        return start
    }
}
