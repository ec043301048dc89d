import CLinux
import CoreLoop
import HTTP
import Synchronization

/// Copies: off the rings, past the checks, and back as returns.
extension ShadowWorker {
    /// Takes a bounded number of copies off the links, beginning with another link each turn.
    func takeCopies() {
        hasMoreCopies = false
        bytesReadThisTurn = 0
        guard linkCount > 0 else { return }
        var budget = ShadowLimits.copiesPerTurnMax
        let share = max(1, budget / linkCount)
        for step in 0..<linkCount {
            let index = (firstLink + step) % linkCount
            guard updateAttachment(index) else { continue }
            let taken = takeCopies(from: index, atMost: min(share, budget))
            budget -= taken
            if links[index].copies.peek() != nil { hasMoreCopies = true }
            cancelLeft(of: index)
        }
        firstLink = (firstLink + 1) % linkCount
        let taken = ShadowLimits.copiesPerTurnMax - budget
        if taken > 0 { noteTraffic(copies: taken) }
    }

    /// Whether copies may be taken off the link: its worker has cleaned it for this epoch.
    ///
    /// Where the worker's side takes that back, its blocks may get other contents from then on:
    /// everything from there is dropped at once, unsaid, as both rings will be emptied.
    private func updateAttachment(_ index: Int) -> Bool {
        let link = links[index].link
        let isReady = link.readyEpoch.acquired == epoch
        if isReady != links[index].isAttached {
            if isReady {
                links[index].copies.resume()
                links[index].returns.resume()
                link.attachedEpoch.publish(epoch)
            } else {
                abandonCopies(of: index)
                link.attachedEpoch.publish(0)
            }
            links[index].isAttached = isReady
        }
        return isReady
    }

    private func takeCopies(from index: Int, atMost budget: Int) -> Int {
        var taken = 0
        let wallMs = WallClock.milliseconds()
        while taken < budget, bytesReadThisTurn < ShadowLimits.bodyBytesPerTurnMax,
            let cell = links[index].copies.peek()
        {
            let entry = cell.entry
            let sliceCount = Int(entry.sliceCount)
            precondition(
                Int(entry.ticket) < links[index].link.depth
                    && sliceCount <= MirrorLimits.slicesPerCopyMax,
                "a worker wrote a copy that cannot be")
            let places = CopyCell.count(forSlices: sliceCount)
            // A copy's places are shown all at once.
            precondition(
                links[index].copies.peek(ahead: places - 1) != nil, "a copy lacks its slices")
            let isWhole = gatherSlices(entry, index)
            links[index].copies.consume(places)
            prefetchNext(of: index)
            taken += 1
            if isWhole, Int(entry.shadow) < shadowCount {
                start(entry, from: index, wallMs: wallMs)
            } else {
                giveBack(index, .dropped(entry.ticket, .invalidCopy))
            }
        }
        return taken
    }

    /// Has the head of the next copy brought into the cache while this one is sent: another process
    /// wrote it, maybe long ago.
    private func prefetchNext(of index: Int) {
        guard let entry = links[index].copies.peek()?.entry else { return }
        let slice = entry.slices.0
        guard links[index].holds(slice) else { return }
        let head = links[index].pointer(slice)
        let bytes = min(Int(slice.count), ShadowLimits.prefetchedBytesMax)
        for offset in stride(from: 0, to: bytes, by: 64) { umbra_prefetch(head + offset) }
    }

    /// Copies the entry's slices to scratch. False where they do not lie in the worker's blocks or
    /// do not add up to the copy.
    private func gatherSlices(_ entry: CopyEntry, _ index: Int) -> Bool {
        let slices = scratch.slices
        var bytes = 0
        var place = 0
        var cell = CopyCell()
        for position in 0..<Int(entry.sliceCount) {
            let slice: Slice
            if position < MirrorLimits.slicesInFirstEntry {
                slice = position == 0 ? entry.slices.0 : entry.slices.1
            } else {
                let further = position - MirrorLimits.slicesInFirstEntry
                let inCell = further % MirrorLimits.slicesPerEntry
                if inCell == 0 {
                    place += 1
                    guard let next = links[index].copies.peek(ahead: place) else { return false }
                    cell = next
                }
                slice = cell[slice: inCell]
            }
            guard links[index].holds(slice) else { return false }
            slices[position] = slice
            bytes += Int(slice.count)
        }
        return bytes == Int(entry.headBytes) + Int(entry.bodyBytes) + Int(entry.trailerBytes)
    }

    /// The checks, the cheapest first; then the copy gets a connection.
    private func start(_ entry: CopyEntry, from index: Int, wallMs: UInt64) {
        let shadow = Int(entry.shadow)
        let state = shadows + shadow
        guard board.control[.enabled].value != 0 else {
            return giveBack(index, .dropped(entry.ticket, .switchedOff))
        }
        if state.pointee.cancelsWithClient, hasLeft(entry.ticket, of: index) {
            return giveBack(index, .dropped(entry.ticket, .clientAborted))
        }
        let pushed = Instant(nanoseconds: entry.pushedNs)
        if now > pushed.adding(ms: state.pointee.timeoutMs) {
            return giveBack(index, .dropped(entry.ticket, .stale))
        }
        guard state.pointee.breaker.admits(now: now) else {
            return giveBack(index, .dropped(entry.ticket, .breakerOpen))
        }
        guard !isCoolingDown(state) else {
            return giveBack(index, .dropped(entry.ticket, .coolDown))
        }
        guard state.pointee.inFlight < state.pointee.inFlightMax else {
            return giveBack(index, .dropped(entry.ticket, .inFlightLimit))
        }
        // A look ahead: a flood beyond the cap must not cost a rendering or a connection each.
        let hasRoom = (caps + shadow).pointee.hasRoom(
            qps: state.pointee.qps, earlier: now, clock: { clock() })
        guard hasRoom else {
            return giveBack(index, .dropped(entry.ticket, .qpsCap))
        }
        var copy = ShadowCopy(
            link: index, ticket: entry.ticket, headBytes: Int(entry.headBytes),
            bodyBytes: Int(entry.bodyBytes), trailerBytes: Int(entry.trailerBytes),
            sliceCount: Int(entry.sliceCount), hasBody: entry.hasBody != 0,
            primaryPrefixBytes: Int(entry.primaryPrefixBytes), pass: .ordinary,
            takenNs: now.nanoseconds,
            id: ShadowID(wallMs: wallMs, random: &random))
        copy.pair = entry.pair
        copy.rewrite.primary = CopyPrimary(rawValue: entry.primary) ?? .plain
        var exchange: InferenceExchange?
        if copy.pair != 0 || state.pointee.edit != nil,
            let reason = prepare(&copy, state, &exchange)
        {
            return giveBack(index, .dropped(entry.ticket, reason))
        }
        guard render(&copy, scratch.slices, state) else {
            return giveBack(index, .dropped(entry.ticket, .invalidCopy))
        }
        let idle = takeIdle(shadow)
        enter(&copy, state)
        if let idle {
            carry(copy, exchange, idle)
            begin(idle, isRendered: true)
        } else {
            open(copy, exchange, shadow)
        }
    }

    private func isCoolingDown(_ state: UnsafeMutablePointer<ShadowState>) -> Bool {
        guard state.pointee.coolDownUntil.nanoseconds > 0 else { return false }
        if now < state.pointee.coolDownUntil { return true }
        state.pointee.coolDownUntil = Instant(nanoseconds: 0)
        state.pointee.gauges[.coolDownUntil].set(0)
        return false
    }

    private func enter(_ copy: inout ShadowCopy, _ state: UnsafeMutablePointer<ShadowState>) {
        copy.pass = state.pointee.breaker.enter(now: now)
        state.pointee.showBreaker(openedBefore: state.pointee.breaker.openedCount)
        state.pointee.countInFlight(1)
        inFlight += 1
    }

    /// The copy's slices, at the connection that carries it.
    func carry(_ copy: ShadowCopy, _ exchange: InferenceExchange?, _ slot: Int) {
        if let exchange { exchanges.insert(exchange, at: slot) }
        pool.connections[slot].pointee.copy = copy
        pool.connections[slot].pointee.answer = ShadowAnswer()
        pool.slices(slot).update(from: scratch.slices, count: copy.sliceCount)
    }

    /// What an ended copy says about the shadow.
    enum Word { case good, bad, nothing }

    /// The copy ends unsent. Its connection, if there is one, is the caller's to close or keep.
    func endUnsent(_ slot: Int, _ reason: DropReason, _ word: Word) {
        let copy = pool.connections[slot].pointee.copy
        end(slot, word)
        giveBack(copy.link, .dropped(copy.ticket, reason))
    }

    /// The copy ends after its first byte was sent.
    func endSent(_ slot: Int, _ result: CopyResult, _ word: Word, isWhole: Bool = false) {
        let connection = pool.connections[slot]
        let copy = connection.pointee.copy
        let status = connection.pointee.answer.status
        let latencyNs = clock().nanoseconds(since: copy.firstByte)
        if isWhole { shadows[connection.pointee.shadow].latency.record(latencyNs) }
        // Before the return: who has read that finds this there.
        if copy.isCaptured { pushCapture(slot, isWhole: isWhole) }
        end(slot, word)
        giveBack(
            copy.link,
            .sent(
                copy.ticket, result, status: status,
                latencyUs: UInt32(clamping: latencyNs / 1_000),
                shadowID: (copy.id.high, copy.id.low)))
    }

    private func end(_ slot: Int, _ word: Word) {
        let state = shadows + pool.connections[slot].pointee.shadow
        let pass = pool.connections[slot].pointee.copy.pass
        let openedBefore = state.pointee.breaker.openedCount
        switch word {
        case .good: state.pointee.breaker.succeed(pass)
        case .bad: state.pointee.breaker.fail(pass, now: now)
        case .nothing: state.pointee.breaker.abandon(pass)
        }
        state.pointee.showBreaker(openedBefore: openedBefore)
        state.pointee.countInFlight(-1)
        inFlight -= 1
        if pool.connections[slot].pointee.copy.rewrite.inference != nil { exchanges.remove(slot) }
        pool.connections[slot].pointee.phase = .idle
        // A probe shall meet the shadow as it is, not a connection from before.
        if state.pointee.breaker.openedCount != openedBefore {
            closeIdle(pool.connections[slot].pointee.shadow)
        }
    }

    private func giveBack(_ index: Int, _ result: CopyReturn) {
        precondition(
            links[index].returns.push(result), "a ring of returns has a place for each ticket")
    }

    /// Marks the copy as sent, for whoever has to count after a crash of this process.
    func markSent(_ copy: ShadowCopy) {
        links[copy.link].link.ticketStates[Int(copy.ticket)].store(
            TicketState.sent, ordering: .releasing)
    }

    /// Ends the process's work: sent copies come back as `cancelled`, all others as dropped with
    /// `shadow_restarted`; connections are closed. Nothing is taken after this.
    public func cancelAll() {
        isCancelled = true
        for index in 0..<linkCount where links[index].isAttached {
            links[index].link.attachedEpoch.publish(0)
        }
        for slot in 0..<pool.connections.walkEnd where pool.connections.isUsed(slot) {
            switch pool.connections[slot].pointee.phase {
            case .idle: removeIdle(slot)
            case .connecting: endUnsent(slot, .shadowRestarted, .nothing)
            case .sending, .awaiting: endSent(slot, .cancelled, .nothing)
            }
            close(slot, reset: true)
        }
        for index in 0..<linkCount where links[index].isAttached {
            while let cell = links[index].copies.peek() {
                let entry = cell.entry
                links[index].copies.consume(CopyCell.count(forSlices: Int(entry.sliceCount)))
                giveBack(index, .dropped(entry.ticket, .shadowRestarted))
            }
            links[index].isAttached = false
        }
    }

    private func hasLeft(_ ticket: UInt32, of index: Int) -> Bool {
        links[index].link.ticketsLeft[Int(ticket)].load(ordering: .relaxed) != 0
    }

    /// Whether clients have left since the last turn.
    func hasLeavings(_ index: Int) -> Bool {
        links[index].link.leavings.acquired != links[index].leavingsSeen
    }

    /// Gives up the copies whose clients have left, where their shadow is to.
    private func cancelLeft(of index: Int) {
        guard hasLeavings(index) else { return }
        links[index].leavingsSeen = links[index].link.leavings.acquired
        for slot in 0..<pool.connections.walkEnd where pool.connections.isUsed(slot) {
            let connection = pool.connections[slot]
            guard connection.pointee.phase != .idle, connection.pointee.copy.link == index,
                shadows[connection.pointee.shadow].cancelsWithClient,
                hasLeft(connection.pointee.copy.ticket, of: index)
            else { continue }
            if connection.pointee.phase == .connecting {
                endUnsent(slot, .clientAborted, .nothing)
            } else {
                endSent(slot, .cancelled, .nothing)
            }
            close(slot, reset: true)
        }
    }

    /// Closes every connection that carries a copy of the link, without a return.
    private func abandonCopies(of index: Int) {
        for slot in 0..<pool.connections.walkEnd where pool.connections.isUsed(slot) {
            let connection = pool.connections[slot]
            guard connection.pointee.phase != .idle, connection.pointee.copy.link == index else {
                continue
            }
            end(slot, .nothing)
            close(slot, reset: true)
        }
    }
}
