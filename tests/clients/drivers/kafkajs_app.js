// A program that uses kafkajs as its readers would: admin, producers, a group of two members that
// is left and joined again. Arguments: bootstrap, topic, time stamp of the first record. The last
// line it prints is what it saw, as JSON. It waits for events of the client, never for a time.

'use strict'

const { Kafka, CompressionTypes, ConfigResourceTypes, logLevel } = require('kafkajs')

const [bootstrap, topic, firstMs] = process.argv.slice(2)
const groupId = `${topic}-readers`
const PARTITIONS = 3

// Its own time-outs are for a network: a machine may be busy for longer than a second.
const patience = { connectionTimeout: 60000, authenticationTimeout: 60000, requestTimeout: 60000 }

function connectTo (extra = {}) {
  return new Kafka({
    brokers: [bootstrap], clientId: 'kafkajs', logLevel: logLevel.NOTHING, ...patience, ...extra
  })
}

const kafka = connectTo()

async function using (client, work) {
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.disconnect()
  }
}

// The name and the words of what went wrong; that nothing did is told as such.
async function complaint (work) {
  try {
    await work()
    return 'none'
  } catch (error) {
    const inner = (error.errors || []).map(one => one.message)
    return [error.name, error.message, ...inner].join(': ')
  }
}

let produced = 0

async function produce (options, sending) {
  await using(kafka.producer(options), async producer => {
    const messages = []
    for (let i = 0; i < 2 * PARTITIONS; i++, produced++) {
      messages.push({
        key: `key-${produced}`,
        value: `value-${produced} `.repeat(20),
        partition: i % PARTITIONS,
        headers: { number: String(produced) },
        timestamp: String(Number(firstMs) + produced)
      })
    }
    await producer.send({ topic, messages, ...sending })
  })
}

function asProduced (message) {
  const number = Number(message.key.toString().slice(4))
  return message.value.toString() === `value-${number} `.repeat(20) &&
    message.headers.number.toString() === String(number) &&
    message.timestamp === String(Number(firstMs) + number)
}

// A member of the group: `seen` gets each message, `placed` each assignment, `committed` what is.
async function join ({ seen = () => {}, placed = () => {}, committed = () => {} }) {
  const member = kafka.consumer({
    groupId, sessionTimeout: 60000, rebalanceTimeout: 60000, heartbeatInterval: 100, maxWaitTimeInMs: 100
  })
  const { GROUP_JOIN, COMMIT_OFFSETS } = member.events
  member.on(GROUP_JOIN, ({ payload }) => placed(payload.memberAssignment[topic] || []))
  member.on(COMMIT_OFFSETS, ({ payload }) => committed(payload.topics.flatMap(one => one.partitions)))
  await member.connect()
  await member.subscribe({ topics: [topic], fromBeginning: true })
  await member.run({ eachMessage: async ({ message }) => seen(message) })
  return member
}

// One member reads and commits all; then a second one shares the partitions with it.
async function readAll () {
  const wrong = []
  const offsets = new Map()
  const places = {}
  let count = 0
  let note
  const shared = new Promise(resolve => {
    note = (who, partitions) => {
      places[who] = partitions.length
      const sizes = Object.values(places).sort()
      if (sizes.length === 2 && sizes[0] > 0 && sizes[0] + sizes[1] === PARTITIONS) resolve(sizes)
    }
  })
  const first = await new Promise(resolve => {
    const joined = join({
      seen: message => {
        count++
        if (!asProduced(message)) wrong.push(message.key.toString())
      },
      placed: partitions => note('first', partitions),
      committed: partitions => {
        for (const { partition, offset } of partitions) offsets.set(partition, Number(offset))
        if ([...offsets.values()].reduce((sum, one) => sum + one) === produced) resolve(joined)
      }
    })
  })
  const second = await join({ placed: partitions => note('second', partitions) })
  const sizes = await shared
  await first.disconnect()
  await second.disconnect()
  return { count, wrong, sizes }
}

// The group goes on where it was.
async function readOn () {
  await using(kafka.producer(), producer => producer.send({ topic, messages: [{ value: 'late' }] }))
  const values = []
  const member = await new Promise(resolve => {
    const joined = join({
      seen: message => values.push(message.value.toString()),
      committed: () => resolve(joined)
    })
  })
  await member.disconnect()
  return values
}

async function main (admin) {
  const saw = {}
  const configEntries = [{ name: 'retention.ms', value: '86400000' }]
  saw.created = await admin.createTopics({ topics: [{ topic, numPartitions: PARTITIONS, configEntries }] })
  saw.createdAgain = await admin.createTopics({ topics: [{ topic, numPartitions: PARTITIONS }] })
  for (const acks of [-1, 1, 0]) {
    await produce({}, { acks, compression: CompressionTypes.None })
    await produce({}, { acks, compression: CompressionTypes.GZIP })
  }
  await produce({ idempotent: true, maxInFlightRequests: 1 }, {})
  saw.read = await readAll()
  saw.late = await readOn()
  const { groups } = await admin.listGroups()
  saw.listed = groups.filter(group => group.groupId === groupId)
  const [described] = (await admin.describeGroups([groupId])).groups
  saw.group = [described.state, described.members.length]
  const [committed] = await admin.fetchOffsets({ groupId, topics: [topic] })
  saw.committed = committed.partitions.reduce((sum, one) => sum + Number(one.offset), 0)
  const byTime = await admin.fetchTopicOffsetsByTimestamp(topic, Number(firstMs) + 2 * PARTITIONS)
  saw.byTime = byTime.map(one => one.offset)
  await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '5' }] })
  await admin.createPartitions({ topicPartitions: [{ topic, count: PARTITIONS + 1 }] })
  const offsets = await admin.fetchTopicOffsets(topic)
  saw.low = offsets.sort((a, b) => a.partition - b.partition).map(one => one.low)
  const configured = await admin.describeConfigs({
    resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configNames: ['retention.ms'] }]
  })
  saw.retention = configured.resources[0].configEntries.map(entry => entry.configValue)
  saw.acls = await complaint(() => admin.describeAcls(
    { resourceType: 1, resourcePatternType: 1, operation: 1, permissionType: 1 }))
  const transactional = { transactionalId: topic, idempotent: true, maxInFlightRequests: 1 }
  saw.transaction = await complaint(
    () => using(kafka.producer(transactional), producer => producer.transaction()))
  const sasl = { mechanism: 'plain', username: 'u', password: 'p' }
  saw.login = await complaint(() => using(connectTo({ sasl, retry: { retries: 0 } }).admin(), () => {}))
  await admin.deleteGroups([groupId])
  await admin.deleteTopics({ topics: [topic] })
  saw.left = (await admin.listTopics()).includes(topic)
  return saw
}

using(kafka.admin(), main).then(
  saw => console.log(JSON.stringify(saw)),
  error => {
    console.error(error)
    process.exitCode = 1
  }
)
